-- A running job's log has become too long: what follows is not in it any more, and nobody may join
-- the job. ARGV: id, attempt. Returns 1 or 0.
local id, attempt = unpack(ARGV)

if not is_current(id, attempt) then return 0 end
redis.call('HSET', job_key(id), 'unlogged', 1)
return 1

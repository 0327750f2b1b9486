-- needs: jobs, keys
-- A running job's log has become too long: further events are not written to it, and no reader may
-- attach to the job. ARGV: id, attempt. Returns 1, or 0 if the attempt is not the current one.
local id, attempt = unpack(ARGV)

if not jobs.is_current(id, attempt) then return 0 end
redis.call('HSET', keys.job(id), 'unlogged', 1)
return 1

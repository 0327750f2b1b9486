-- needs: jobs, keys, strangers
-- The upstream refused the key of a running job: for a minute, its new jobs are refused, too.
-- ARGV: id, attempt. Returns 1, or 0 if this attempt is not the current one.
local id, attempt = unpack(ARGV)

if not jobs.is_current(id, attempt) then return 0 end
strangers.refuse(redis.call('HGET', keys.job(id), 'key'))
return 1

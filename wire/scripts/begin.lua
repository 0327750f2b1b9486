-- The first events of an attempt: from here on the job is never tried again in silence.
-- Logged and published only if the attempt is still the current one. Returns 1 or 0.
-- ARGV ends with a channel and a frame for each of its front ends.
local id, attempt, entry, ttl = unpack(ARGV, 1, 4)

local state, current, account = unpack(redis.call('HMGET', job_key(id), 'state', 'attempt', 'account'), 1, 3)
if state ~= 'running' or current ~= attempt then return 0 end
redis.call('HSET', job_key(id), 'published', 1)
redis.call('HDEL', account_key(account), 'rest')
redis.call('XADD', log_key(id), '*', 'box', entry)
redis.call('PEXPIRE', log_key(id), ttl)
publish(5)
return 1

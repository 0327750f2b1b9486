-- The first events of an attempt: from here on the job is never tried again in silence.
-- Published only if the attempt is still the current one. Returns 1 or 0.
local id, attempt, channel, frame = unpack(ARGV)

local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'account')
if job[1] ~= 'running' or job[2] ~= attempt then return 0 end
redis.call('HSET', job_key(id), 'published', 1)
redis.call('HDEL', account_key(job[3]), 'rest')
redis.call('PUBLISH', channel, frame)
return 1

-- End a running job: the log first, then the ending, then its seat and slot go to the next.
-- Returns 1, or 0 when this attempt is not (or no longer) the one to end it.
local id, attempt, state, entry, channel, frame, keep = unpack(ARGV)

local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'account', 'queue')
if job[1] ~= 'running' or job[2] ~= attempt then return 0 end
redis.call('XADD', log_key(id), '*', 'box', entry)
close_job(id, job[3], job[4], state, tonumber(keep))
redis.call('PUBLISH', channel, frame)
return 1

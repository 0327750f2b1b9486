-- End a running job: the log first, then the ending, then its seat and slot go to the next.
-- Returns 1, or 0 when this attempt is not (or no longer) the one to end it.
-- ARGV ends with a channel and a frame for each of its front ends.
local id, attempt, ending, entry = unpack(ARGV, 1, 4)

local state, current, account, queue =
  unpack(redis.call('HMGET', job_key(id), 'state', 'attempt', 'account', 'queue'), 1, 4)
if state ~= 'running' or current ~= attempt then return 0 end
redis.call('XADD', log_key(id), '*', 'box', entry)
close_job(id, account, queue, ending)
publish(5)
return 1

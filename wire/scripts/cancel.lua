-- End a waiting job, without a word to its readers, or ask the worker of a running one to end it.
-- ARGV: id, 1 if a waiting one is to be left alone.
-- Returns 'cancelled' (it waited), 'waiting' (and still does), 'running' or 'gone'.
local id, unless_waiting = unpack(ARGV)

local state = redis.call('HGET', job_key(id), 'state')
if state == 'waiting' and unless_waiting == '1' then return state end
if not state then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
end
return cancel_job(id)

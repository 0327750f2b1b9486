-- End a waiting job, without a word to its readers, or ask the worker of a running one to end it; one
-- that is done is forgotten by its idempotency key, and soon altogether.
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
if state == 'done' then keep(id, redis.call('HGET', job_key(id), 'idem'), 0) end
return cancel_job(id)

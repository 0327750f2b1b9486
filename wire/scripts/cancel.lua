-- End a waiting job, or ask the worker of a running one to end it (unless `waiting_only`).
-- ARGV: id, waiting_only. Returns 'cancelled', 'running' or 'gone'.
local id, waiting_only = unpack(ARGV)

local state = redis.call('HGET', job_key(id), 'state')
if state == 'running' and waiting_only == '1' then return 'running' end
if not state then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
end
return cancel_job(id, waiting_only == '1' and 'waited_too_long' or nil)

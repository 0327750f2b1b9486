-- End a waiting job, without a word to its readers, or ask the worker of a running one to end it.
-- ARGV: id, and 'waiting' or 'running' if only such a one, or ''; 'waiting' is said by a reader that
-- has waited too long: what others read goes on waiting, for them.
-- Returns 'cancelled' (it waited), 'waiting' (and still does), 'running' or 'gone'.
local id, only = unpack(ARGV)

local state, front = fields(job_key(id), 'state', 'front')
if (state == 'running' and only == 'waiting') or (state == 'waiting' and only == 'running') then return state end
if only == 'waiting' and front and string.find(front, '%S%s+%S') then return 'waiting' end
if not state then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
end
return cancel_job(id, only == 'waiting' and 'waited_too_long' or nil)

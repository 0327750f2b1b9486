-- A reader leaves. The last one takes the job along, unless it came with an idempotency key: then
-- it may be read again within its grace. ARGV: id. Returns 'cancelled', 'running', 'gone' or 'stays'.
local id = ARGV[1]

local state = redis.call('HGET', job_key(id), 'state')
if not state then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
elseif redis.call('HINCRBY', job_key(id), 'readers', -1) > 0 then
  return 'stays'
elseif (state == 'waiting' or state == 'running') and orphan(id) then
  return 'stays'
end
return cancel_job(id)

-- End a waiting job, or ask the worker of a running one to end it (unless `waiting_only`).
-- Returns 'cancelled', 'running' or 'gone'.
local id, waiting_only = unpack(ARGV)

local state, account, queue, worker, attempt = unpack(redis.call('HMGET', job_key(id),
  'state', 'account', 'queue', 'worker', 'attempt'), 1, 5)
if state == 'waiting' then
  close_job(id, account, queue, 'cancelled')
  return 'cancelled'
elseif state == 'running' then
  if waiting_only ~= '1' then
    -- The mark stays for the worker's next renewal, should this message get lost.
    redis.call('HSET', job_key(id), 'cancel', 1)
    redis.call('PUBLISH', 'gateway:worker:' .. worker, 'cancel ' .. id .. ' ' .. attempt)
  end
  return 'running'
elseif not state then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
end
return 'gone'

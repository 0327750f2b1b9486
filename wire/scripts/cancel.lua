-- End a waiting job, or ask the worker of a running one to end it (unless `waiting_only`).
-- Returns 'cancelled', 'running' or 'gone'.
local id, waiting_only, keep = unpack(ARGV)

local job = redis.call('HMGET', job_key(id), 'state', 'account', 'queue', 'worker', 'attempt')
if job[1] == 'waiting' then
  close_job(id, job[2], job[3], 'cancelled', tonumber(keep))
  return 'cancelled'
elseif job[1] == 'running' then
  if waiting_only ~= '1' then
    -- The mark stays for the worker's next renewal, should this message get lost.
    redis.call('HSET', job_key(id), 'cancel', 1)
    redis.call('PUBLISH', 'gateway:worker:' .. job[4], id .. ' ' .. job[5])
  end
  return 'running'
end
if not job[1] then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), keep)
end
return 'gone'

-- A reader of a front end leaves. The last one takes the job along, unless it came with an idempotency key: then
-- it may be read again within its grace, if its log is whole. ARGV: id, front end, 1 if it has got all it asked
-- for: then nobody who asks the same wants more. Returns 'cancelled', 'running', 'gone' or 'stays'.
local id, front, enough = unpack(ARGV)

local state, unlogged = fields(job_key(id), 'state', 'unlogged')
if not state then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
elseif enough == '1' then
  redis.call('HSET', job_key(id), 'enough', 1)
elseif state == 'waiting' or state == 'running' then
  redis.call('HINCRBY', job_key(id), 'readers ' .. front, -1)
  if has_reader(id) or (not unlogged and orphan(id)) then return 'stays' end
end
return cancel_job(id)

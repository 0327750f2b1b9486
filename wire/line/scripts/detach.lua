-- A reader leaves. The last one takes the job along, unless it came with an idempotency key: then
-- it may be read again within its grace, if its log is whole. ARGV: id, the reader (the id of the
-- job that its own request would have made), 1 if it has got all it asked for: then nobody who asks
-- the same wants more; the name of its idempotency key, or ''.
-- Returns 'cancelled', 'running', 'gone' or 'stays'.
local id, reader, enough, idem = unpack(ARGV)

local state, readers = fields(job_key(id), 'state', 'readers')
if not state then
  -- It may still be on its way here, on another connection: it must not come in after all.
  redis.call('HSET', job_key(id), 'state', 'cancelled')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
  -- Or it has been attached to another job, and does not know.
  id = idem ~= '' and string.match(redis.call('GET', idem) or '', '^%S+') or id
  state, readers = fields(job_key(id), 'state', 'readers')
  if not readers or without(readers, reader) == readers then return 'gone' end
end
if state ~= 'waiting' and state ~= 'running' then
  return 'gone'
elseif enough == '1' then
  redis.call('HSET', job_key(id), 'enough', 1)
else
  readers = without(readers, reader)
  redis.call('HSET', job_key(id), 'readers', readers)
  if has_reader(readers) or orphan(id) then return 'stays' end
end
return cancel_job(id)

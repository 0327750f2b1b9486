-- needs: hash, jobs, keys
-- Readers detach. When the last one of a job does, the job is cancelled unless it has an idempotency
-- key: then it may be read again within its grace, if its log is complete. ARGV, for each reader: id,
-- the reader (the id of the job that its own request would have made), 1 if it has received all it
-- asked for (then no later reader with the same request needs more), the Redis key of its idempotency
-- key, or ''.
local function detach(id, reader, enough, idem)
  local state, readers, has_key = hash.get(keys.job(id), 'state', 'readers', 'idem')
  if not state then
    jobs.forbid(id)
    -- Or the reader has been attached to another job, and does not know it.
    id = idem ~= '' and string.match(redis.call('GET', idem) or '', '^%S+') or id
    state, readers, has_key = hash.get(keys.job(id), 'state', 'readers', 'idem')
    if not readers or jobs.without(readers, reader) == readers then return end
  end
  if state ~= 'waiting' and state ~= 'running' then
    return
  elseif enough == '1' then
    redis.call('HSET', keys.job(id), 'enough', 1)
  else
    readers = jobs.without(readers, reader)
    redis.call('HSET', keys.job(id), 'readers', readers)
    if jobs.has_reader(readers) or has_key and jobs.orphan(id) then return end
  end
  jobs.cancel(id)
end

for i = 1, #ARGV, 4 do detach(unpack(ARGV, i, i + 3)) end

-- needs: admission, allowance, channels, clock, durations, fairness, forecast, hash, jobs, keys, lanes, line, metrics, strangers, usage
-- Admit a new job to the line, or refuse it. ARGV: the job and the limits, as msgpack; its sealed request.
-- Returns {'accepted', place, wait in ms, time in ms} | {'known'} | {'attached', id} | {'mismatch'} | {'lost'} |
-- {'refused', reason, retry time in ms from now, 0 if the client should not retry by itself}. To the reply that
-- accepts or refuses a job of an issued key with a limit of requests, {..., limit a minute, those left, time in ms
-- until all are free again} is added.
local job, limits, body = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]), ARGV[3]
local id, lane, key, sort = job.id, job.lane, job.key, lanes.sort(job.lane)
local issued = nil -- the record of an issued key

local function refuse(reason, wait, retry)
  metrics.count('gateway_refusals_total', {lane = sort, reason = reason})
  return {'refused', reason, math.ceil(wait), retry == false and 0 or 1, allowance.left(issued)}
end

redis.call('SET', keys.front_end(job.front_end), '', 'PX', limits.front_ttl) -- its front end is alive
if redis.call('EXISTS', keys.job(id)) == 1 then return {'known'} end

if job.idem then
  local known, digest = string.match(redis.call('GET', job.idem) or '', '^(%S+) (%S+)$')
  local state, readers, worker, attempt, unlogged, cancel, enough
  if known then
    state, readers, worker, attempt, unlogged, cancel, enough =
      hash.get(keys.job(known), 'state', 'readers', 'worker', 'attempt', 'unlogged', 'cancel', 'enough')
  end
  if readers and job.accepted then
    job.idem = nil -- its client asked again before this front end did, and has another job under the key
  elseif readers and (not cancel or enough) then -- a job that is being cancelled releases its key
    if digest ~= job.digest then return {'mismatch'} end
    if unlogged then return {'lost'} end
    if state ~= 'done' then
      local others = jobs.without(readers, id)
      redis.call('HSET', keys.job(known), 'readers', others .. ' ' .. job.front_end .. '/' .. id)
      redis.call('ZREM', keys.later, 'orphan ' .. known)
    end
    if state == 'running' then
      channels.command(worker, {'attach', known, tonumber(attempt), job.front_end})
    end
    return {'attached', known}
  end
end
if job.resumes then return {'lost'} end

if job.issued ~= '' then
  issued = allowance.record(job.issued)
  if not job.accepted then
    local reason, wait, retry = allowance.refusal(issued)
    if reason then return refuse(reason, wait, retry) end
  end
  if issued then allowance.apply(issued, job, limits) end
end

local record = keys.key(key)
redis.call('HSET', record, 'cap', job.key_slots, 'weight', job.weight)
job.account = job.own_slots > 0 and key or nil -- else the claim chooses one
if job.account then redis.call('HSET', keys.account(key), 'cap', job.own_slots) end
job.stranger = strangers.is_one(key)
if not job.accepted then
  -- Its place, if it were admitted: among its key's users, after its user's last job is paid for, or now.
  local earliest = fairness.users_earliest(key, job.user)
  job.line_tag = math.max(earliest, tonumber(redis.call('HGET', record, 'now') or 1)) + job.band
  local reason, wait, kept = admission.refusal(job, limits)
  if reason then
    strangers.keep(key, durations.MINUTE)
    return refuse(reason, wait, kept)
  end
end

-- A strict band goes before all others of its key; settings.toml says which jobs that starves.
job.line_tag = fairness.users_next_tag(key, job.user, job.slots / job.tier) + job.band
strangers.keep(key, job.stranger and limits.longest + 10 * durations.MINUTE or durations.DAY)
usage.request(job)
redis.call('HSET', keys.job(id), 'state', 'waiting', 'lane', lane, 'key', key, 'family', job.family,
  'user', job.user, 'tier', job.tier, 'weight', job.weight, 'line_tag', job.line_tag,
  'readers', job.front_end .. '/' .. id, 'band', job.band, 'arrived', clock.now,
  'deadline', clock.now + limits.longest, 'bytes', job.bytes, 'attempt', 0, 'crashes', 0, 'body', body,
  'book', job.book, 'model', job.model, 'units', job.units, 'usage_days', job.usage_days)
if job.account then redis.call('HSET', keys.job(id), 'account', key) end
if job.slots > 1 then redis.call('HSET', keys.job(id), 'slots', job.slots) end
if job.promised then redis.call('HSET', keys.job(id), 'promised', 1) end
redis.call('PEXPIRE', keys.job(id), durations.DAY)
if job.idem then
  redis.call('HSET', keys.job(id), 'idem', job.idem, 'grace', limits.grace, 'keep', limits.keep)
  redis.call('SET', job.idem, id .. ' ' .. job.digest, 'PX', durations.DAY)
end
redis.call('INCRBY', keys.bytes, job.bytes)
if job.accepted then
  metrics.count('gateway_repairs_total', {what = 'resubmitted'})
else
  metrics.count('gateway_jobs_total', {lane = sort})
  if issued then allowance.count(issued, id) end
end
if not job.place then job.place, job.wait = forecast.wait(job, limits) end
line.count_in(id, lane, key, clock.now + limits.longest)
line.insert(id, job)
line.fill_seats(key)
redis.call('HSET', keys.job(id), 'predicted', job.wait)
return {'accepted', job.place, job.wait, clock.now, allowance.left(issued)}

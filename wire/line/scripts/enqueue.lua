-- Put a new job in line. ARGV: the job and the limits, as msgpack; its sealed request; arq's record.
-- Returns {'accepted', place, wait in ms} | {'known'} | {'attached', id} | {'mismatch'} | {'lost'} |
-- {'refused', reason, come back in ms}.
local job, limits, body, arq_job = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]), ARGV[3], ARGV[4]
local id, lane, account, family = job.id, job.lane, job.account, job.family

redis.call('SET', front_key(job.front_end), '', 'PX', limits.front_ttl) -- whoever enqueues is alive
if redis.call('EXISTS', job_key(id)) == 1 then return {'known'} end

if job.idem then
  local known, digest = string.match(redis.call('GET', job.idem) or '', '^(%S+) (%S+)$')
  local state, readers, worker, attempt, unlogged, cancel, enough
  if known then
    state, readers, worker, attempt, unlogged, cancel, enough =
      fields(job_key(known), 'state', 'readers', 'worker', 'attempt', 'unlogged', 'cancel', 'enough')
  end
  if readers and job.accepted then
    job.idem = nil -- its client came back before it did, and has another job under the key
  elseif readers and (not cancel or enough) then -- one that is being cancelled gives its key back
    if digest ~= job.digest then return {'mismatch'} end
    if unlogged then return {'lost'} end
    if state ~= 'done' then
      redis.call('HSET', job_key(known), 'readers', without(readers, id) .. ' ' .. job.front_end .. '/' .. id)
      redis.call('ZREM', LATER, 'orphan ' .. known)
    end
    if state == 'running' then
      local attach = {'attach', known, tonumber(attempt), job.front_end}
      redis.call('PUBLISH', worker_channel(worker), cmsgpack.pack(attach))
    end
    return {'attached', known}
  end
end
if job.resumes then return {'lost'} end

redis.call('HSET', account_key(account), 'cap', job.cap, 'weight', job.weight)
if redis.call('PTTL', account_key(account)) < MINUTE then redis.call('PEXPIRE', account_key(account), MINUTE) end
job.cost = service(lane, family, account)
if not job.accepted then
  -- Where it would stand, were it let in: among its key's users, it comes when its user's last is
  -- paid for, or now.
  local soon = soonest(users_key(account), job.user)
  job.line_tag = math.max(soon, tonumber(redis.call('HGET', account_key(account), 'now') or 1)) + job.band
  local reason, wait = refusal(job, limits)
  if reason then
    count('gateway_refusals_total', {lane = lane, reason = reason})
    return {'refused', reason, math.floor(wait)}
  end
end

local alone = note_arrival(lane, account)

-- A strict band goes before all others of its key; see settings.toml on whom that starves.
job.line_tag = next_tag(account_key(account), users_key(account), job.user, job.cost / job.tier) + job.band
redis.call('PEXPIRE', users_key(account), DAY)
redis.call('PEXPIRE', account_key(account), DAY)
redis.call('HSET', job_key(id), 'state', 'waiting', 'lane', lane, 'account', account, 'family', family,
  'user', job.user, 'tier', job.tier, 'weight', job.weight, 'cost', job.cost, 'line_tag', job.line_tag,
  'readers', job.front_end .. '/' .. id, 'band', job.band, 'arrived', now, 'deadline', now + limits.longest,
  'bytes', job.bytes, 'attempt', 0, 'crashes', 0, 'body', body, 'alone', alone)
if job.promised then redis.call('HSET', job_key(id), 'promised', 1) end
if not has_learned(lane) then redis.call('HSET', job_key(id), 'guessed', 1) end
redis.call('PEXPIRE', job_key(id), DAY)
redis.call('SET', 'arq:job:' .. id, arq_job, 'PX', DAY)
if job.idem then
  redis.call('HSET', job_key(id), 'idem', job.idem, 'grace', limits.grace, 'keep', limits.keep)
  redis.call('SET', job.idem, id .. ' ' .. job.digest, 'PX', DAY)
end
redis.call('INCRBY', BYTES, job.bytes)
if job.accepted then
  count('gateway_repairs_total', {what = 'resubmitted'})
else
  count('gateway_jobs_total', {lane = lane})
end
if not job.place then job.place, job.wait = predict(job, limits) end
count_in(id, lane, account, now + limits.longest, job.cost)
line_up(id, lane, account, family, job.line_tag)
fill_seats(account)
redis.call('HSET', job_key(id), 'predicted', job.wait)
return {'accepted', job.place, job.wait}

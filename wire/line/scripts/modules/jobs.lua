-- needs: channels, clock, durations, fairness, hash, keys, lanes, line, metrics, precedence, service, strangers, upstreams, usage
-- Changes of a job's state: finished, requeued, cancelled; and its readers.
local jobs = {}

local ENDINGS = 2000 -- endings whose stories are kept, about
local REQUEUES = 5   -- of a job, the last ones of which are kept

-- Set how long (ms) a finished job can be read again under its idempotency key, if the key still names
-- it. Otherwise the job is only kept for its present readers.
function jobs.keep(id, idem, ms)
  if idem and string.match(redis.call('GET', idem) or '', '^%S+') == id then redis.call('PEXPIRE', idem, ms) end
  redis.call('PEXPIRE', keys.job(id), math.max(ms, durations.FINISHED))
  redis.call('PEXPIRE', keys.log(id), math.max(ms, durations.FINISHED))
end

-- Note how a job ended: in its record, and for operators in the stream of endings, which outlives it.
-- pcall: an ending that cannot be stored (Redis is full) must not leave a change half done.
local function tell(id, job, state, reason, tokens)
  job.id, job.state, job.reason, job.ended, job.input_tokens, job.output_tokens =
    id, state, reason, clock.now, unpack(tokens)
  redis.call('HSET', keys.job(id), 'state', state, 'reason', reason, 'ended', job.ended, 'slot_ms', job.slot_ms,
    'input_tokens', job.input_tokens, 'output_tokens', job.output_tokens)
  redis.pcall('XADD', keys.endings, 'MAXLEN', '~', ENDINGS, '*', 'id', id, 'job', cmsgpack.pack(job))
end

-- Finish a job; each job finishes once. `reason` is 'done', 'cancelled' or the fault, `tokens` those that it used, as
-- `usage.ending` says. Its request is deleted at once, its log soon; the jobs that wait behind it move up.
function jobs.finish(id, state, reason, tokens)
  local job = hash.some(keys.job(id), 'lane', 'key', 'family', 'account', 'upstream', 'slots', 'leased', 'user', 'tier',
    'line_tag', 'band', 'bytes', 'attempt', 'claimed', 'published', 'enough', 'idem', 'keep', 'slot_ms', 'book', 'model',
    'units', 'usage_days', 'arrived', 'deadline', 'predicted', 'worker', 'requeued')
  local lane, sort, key, family = job.lane, lanes.sort(job.lane), job.key, job.family
  if state == 'cancelled' and job.enough then state, reason = 'done', 'done' end
  local took = job.claimed and clock.now - tonumber(job.claimed) or 0
  job.slot_ms = took * (job.leased or 1) + (job.slot_ms or 0)
  tell(id, job, state, reason, tokens or {0, 0})
  redis.call('HDEL', keys.job(id), 'body')
  jobs.keep(id, job.idem, tonumber(state == 'done' and job.keep or 0))
  if job.attempt ~= '0' then redis.call('DEL', keys.arq_job(id), keys.arq_retry(id), keys.arq_in_progress(id)) end
  local held = line.remove(id, job)
  line.count_out(id, lane, key)
  if job.idem then redis.call('ZREM', keys.later, 'orphan ' .. id) end
  redis.call('DECRBY', keys.bytes, tonumber(job.bytes))

  -- Its flows pay for the slot time that it took, which was only expected so far.
  local slots = tonumber(job.slots or 1)
  local tag, price = job.line_tag - job.band, slots / tonumber(job.tier)
  local expected = service.time(lane, family, key)
  fairness.users_pay(key, job.user, tag + price, price * (took / expected - 1))
  if job.published then
    if service.learn(lane, family, key, took) then line.correct_tags(lane) end
    metrics.observe('gateway_service_seconds', {lane = sort, family = family}, took / 1000)
  end
  if held then fairness.pay(lane, key, family, slots, took, upstreams.others_wait(job.upstream, lane, key)) end
  if took > 0 then precedence.count_slot_time(job.upstream, sort, took) end
  metrics.count('gateway_endings_total', {lane = sort, reason = reason})
  usage.ending(job, reason, job.slot_ms, sort ~= 'images' and tokens or nil)
  if held then -- else it only waited in its key's line: no seat and no slot is free
    local queued = line.fill_seats(key)
    if queued[lane] then fairness.advance_tag(queued[lane], lane, key) end
    channels.nudge() -- a slot of the upstream is free, for a job of any key
  end
  strangers.keep_after_job(key)
end

-- True if this attempt is the running one.
function jobs.is_current(id, attempt)
  local state, current = hash.get(keys.job(id), 'state', 'attempt')
  return state == 'running' and current == attempt
end

-- Reason why an attempt's job may not be requeued: 'not_current', as another attempt is running, or
-- something was published; 'cancelled' meanwhile, or 'revoked', as its key was, or by an 'operator': it must be
-- finished instead. nil if it may.
function jobs.obstacle(id, attempt)
  local published, cancel = hash.get(keys.job(id), 'published', 'cancel')
  if not jobs.is_current(id, attempt) or published then return 'not_current' end
  return cancel and (cancel == '1' and 'cancelled' or cancel) or nil
end

-- The last requeues of a job with this one, as JSON, for operators.
local function requeues(job, reason)
  local all = cjson.decode(job.requeued or '[]')
  all[#all + 1] = {at = clock.now, reason = reason, claimed = tonumber(job.claimed), upstream = job.upstream,
    account = job.account}
  if #all > REQUEUES then table.remove(all, 1) end
  return cjson.encode(all)
end

-- Requeue a running job in its old place, for a reason. `not_before`: a time in ms, or nil. Never a job
-- that is being cancelled: its readers wait for an ending.
function jobs.requeue(id, reason, not_before)
  local job = hash.some(keys.job(id), 'lane', 'key', 'family', 'account', 'upstream', 'slots', 'leased',
    'line_tag', 'deadline', 'claimed', 'requeued')
  local lane, key = job.lane, job.key
  metrics.count('gateway_retries_total', {lane = lanes.sort(lane), reason = reason})
  redis.call('HSET', keys.job(id), 'state', 'waiting', 'requeued', requeues(job, reason))
  redis.call('HINCRBY', keys.job(id), 'slot_ms', (clock.now - (job.claimed or clock.now)) * (job.leased or 1))
  redis.call('HDEL', keys.job(id), 'worker', 'claimed', 'upstream', 'leased')
  if job.account ~= key then redis.call('HDEL', keys.job(id), 'account') end -- the next claim chooses one
  line.remove(id, job)
  fairness.hold(lane, key, job.family, -(job.slots or 1))
  line.count_in(id, lane, key, job.deadline)
  if not_before then
    redis.call('ZADD', keys.later, not_before, 'job ' .. id)
  else
    line.put_back(id, job)
  end
  line.fill_seats(key)
  channels.nudge()
end

-- Finish a waiting job, or have the worker of a running one finish it. Returns 'cancelled', 'running'
-- or 'gone'. `why`: 'revoked', since its key was, or 'operator'; nil if no reader is left.
function jobs.cancel(id, why)
  local state, worker, attempt = hash.get(keys.job(id), 'state', 'worker', 'attempt')
  if state == 'waiting' then
    jobs.finish(id, 'cancelled', 'cancelled')
    return 'cancelled'
  elseif state == 'running' then
    -- The mark is for the worker's next renewal, in case this message is lost.
    redis.call(why and 'HSET' or 'HSETNX', keys.job(id), 'cancel', why or 1)
    channels.command(worker, {'cancel', id, tonumber(attempt), why == 'revoked', why == 'operator'})
    return 'running'
  end
  return 'gone'
end

-- Keep a job out that is not known yet: it may still be on its way, on another connection.
function jobs.forbid(id)
  redis.call('HSET', keys.job(id), 'state', 'cancelled')
  redis.call('PEXPIRE', keys.job(id), durations.FINISHED)
end

-- True if a job has a reader whose front end is alive. The readers of a job are in its field
-- `readers`: `<front end>/<reader> ...`.
function jobs.has_reader(readers)
  for name in string.gmatch(readers, '([^%s/]+)%S*') do
    if redis.call('EXISTS', keys.front_end(name)) == 1 then return true end
  end
  return false
end

-- The readers without one of them, given by its own name.
function jobs.without(readers, reader)
  local others = {}
  for one in string.gmatch(readers, '%S+') do
    if string.match(one, '/(.*)$') ~= reader then others[#others + 1] = one end
  end
  return table.concat(others, ' ')
end

-- Keep a job without readers until its grace ends, if a client may still ask for it: it has an
-- idempotency key and a complete log. True if it is kept.
function jobs.orphan(id)
  local idem, grace, unlogged = hash.get(keys.job(id), 'idem', 'grace', 'unlogged')
  if not idem or tonumber(grace) <= 0 or unlogged then return false end
  redis.call('ZADD', keys.later, 'NX', clock.now + tonumber(grace), 'orphan ' .. id)
  return true
end

-- Resume what was put off until now. Every claim and every search for expired leases does this first.
function jobs.resume_due()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', keys.later, '-inf', clock.now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', keys.later, entry)
    local kind, name = string.match(entry, '^(%a+) (%S+)')
    if kind == 'pause' then
      line.resume(string.match(entry, '^pause (%a+) (.*)$'))
    elseif kind == 'account' or kind == 'family' then
      line.fill_seats(name) -- of the key whose own account it is, if it is
      channels.nudge()
    elseif kind == 'orphan' then
      -- A front end that was only frozen, or cut off for a while, may still read it.
      local readers = redis.call('HGET', keys.job(name), 'readers')
      if readers and not jobs.has_reader(readers) then jobs.cancel(name) end
    elseif redis.call('HGET', keys.job(name), 'state') == 'waiting' then
      local place = line.place(name)
      line.put_back(name, place)
      line.fill_seats(place.key)
    end
  end
end

return jobs

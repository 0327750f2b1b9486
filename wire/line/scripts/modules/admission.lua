-- needs: breaker, clock, forecast, keys, line, pauses, pulse, queue, service, strangers, upstreams, vocabulary
-- Admission of jobs. A refused client gets a retry time. Times given to one key never go backwards, so
-- refused clients form a virtual queue outside the line. Around that time a place is kept for them,
-- against clients without a promise.
--
-- Room is made every `step` ms on average, but not regularly. So retry times are a little further apart
-- than that, the first is a few steps away, and newcomers leave free the places that will be claimed
-- within the next few steps. Callers with the same key cannot be distinguished: the first to return when a
-- promise is due takes it up, so the due time is exactly the retry time that was given. A key's own
-- retry times are as far apart as there are keys outside, so a client that collects promises and never
-- returns takes no more than its key's part of them, as it does inside.
--
-- The key's debt at that time cannot be predicted: one long answer of that key, next to many light keys,
-- is many minutes. A client that takes up a promise does not wait for that, if it would be longer than a
-- job may wait: its job goes as if its key had paid. The debt remains, and makes the key's next retry
-- times later.
--
-- While nothing is known of the length of answers, no job is refused for a wait that is only a guess,
-- and clients refused for another reason are asked to return soon. While the line settles, nothing is
-- claimed, so no room is made: that wait is certain.
local admission = {}

local PATIENCE = 10000   -- ms for which a promised place is kept
local EARLY = 1          -- ms by which a client may return too early
local SECOND = 1000      -- retry times are whole seconds away, as in `Retry-After`
local APART = 1.25       -- steps between retry times
local OWN_APART = 1.5    -- the same for a key's own steps, which become longer when others arrive
local AHEAD = 3          -- steps until the first retry time
local FULL = 2           -- more of them if the line is full: no room may be made for a while
local KEPT = 12          -- steps ahead for which newcomers leave places free
local SEARCHED = 200     -- times that are tried before giving one without a place
local UNKNOWN = 2000     -- assumed length (ms) of a conversation, here, before anything is known
local OF_STRANGERS = 0.5 -- part of the line that strangers may fill while they are in doubt
local MOST = 1000        -- promises that a key may have; beyond that, a retry time without a place

-- Number of promises, of all keys or of one, that will be taken up within `ms`: those hold places.
local function promised_within(name, ms)
  redis.call('ZREMRANGEBYSCORE', name, '-inf', clock.now - PATIENCE)
  return redis.call('ZCOUNT', name, '-inf', clock.now + SECOND + ms)
end

-- Take up a promise of this key, if one is due. True if there was one.
local function take_promise(lane, key)
  local own = keys.promised(key)
  redis.call('ZREMRANGEBYSCORE', own, '-inf', clock.now - PATIENCE)
  local due = redis.call('ZRANGEBYSCORE', own, '-inf', clock.now + EARLY, 'LIMIT', 0, 1)[1]
  if not due then return false end
  redis.call('ZREM', own, due)
  redis.call('ZREM', keys.promises(lane), due)
  return true
end

-- Give a promise; returns its retry time in ms from now, and true. A time beyond `limits.max_retry_after`
-- is not promised: returns that limit, and false. `wait`: time until there should be room;
-- `step`: time in which room is made for one job, `own_step` for one of this key; `room`: number of jobs
-- that may wait, half of which may arrive at once.
local function promise(lane, key, limits, wait, step, own_step, room)
  local all, own, outside = keys.promises(lane), keys.promised(key), keys.outside(lane)
  step, own_step = math.max(1, step * APART), own_step * OWN_APART
  redis.call('ZREMRANGEBYSCORE', outside, '-inf', clock.now - PATIENCE)
  local last = tonumber(redis.call('ZSCORE', outside, key) or 0)
  local number = redis.call('ZCARD', outside) + (last == 0 and 1 or 0)
  local first = math.max(clock.now + (wait + AHEAD * step) * APART, last + math.max(own_step, step * number))
  local function in_seconds(at) return clock.now + math.max(1, math.ceil((at - clock.now) / SECOND)) * SECOND end
  local retry_at = in_seconds(first)
  local most = strangers.is_one(key) and strangers.in_doubt(lane) and 0 or MOST -- the places are for others
  if redis.call('ZCARD', own) >= most then return math.min(retry_at - clock.now, limits.max_retry_after), false end
  local width = math.max(step, SECOND)
  for n = 0, SEARCHED - 1 do
    local from = in_seconds(first + n * width / 2)
    local near = redis.call('ZCOUNT', all, '(' .. from - width, '(' .. from + width)
    local at_once = redis.call('ZCOUNT', all, from - SECOND / 2, '(' .. from + SECOND / 2)
    if near <= 2 * (width / step - 1) and at_once < math.max(1, room / 2) then
      retry_at = from
      break
    end
  end
  if retry_at - clock.now > limits.max_retry_after then return limits.max_retry_after, false end
  local name = key .. ' ' .. retry_at .. ' ' .. clock.micros
  redis.call('ZADD', all, retry_at, name)
  redis.call('ZADD', own, retry_at, name)
  redis.call('ZADD', outside, math.max(last, retry_at), key)
  redis.call('PEXPIRE', own, math.max(last, retry_at) - clock.now + PATIENCE)
  return retry_at - clock.now, true
end

-- Reason why a job of a lane cannot run anywhere, and its retry time (ms from now); nil if it can.
local function no_upstream(lane, limits)
  local live, soonest = upstreams.live(lane), math.huge
  if #live == 0 then return 'no_worker', limits.lease end
  for _, name in ipairs(live) do
    local open = upstreams.open_for(name)
    if not upstreams.is_paused(name) then
      if not open then return end
      if open == 0 then
        if not breaker.probe(name) and queue.is_empty(lane) then return end -- it will be the probe
        open = 5000
      end
      soonest = math.min(soonest, open)
    end
  end
  return 'circuit_open', soonest
end

-- Reason why a job is refused, its retry time (ms from now), and false if no place is kept for it then;
-- nil if it is admitted. Sets the job's
-- `place` and `wait`, and `promised` if it takes up a promise and need not wait until its key has paid.
function admission.refusal(job, limits)
  local lane, key = job.lane, job.key
  local refused = strangers.refused_for(key)
  if refused > 0 then return 'key_refused', refused, false end
  local paused = math.max(pauses.intake_until(key), upstreams.paused_until(job))
  if paused > clock.now then return 'paused', pauses.retry(paused) end
  local reason, retry = no_upstream(lane, limits)
  if reason then return reason, retry end

  local until_, aside = upstreams.spent_until(job)
  local spent = until_ - clock.now
  if spent > 0 and aside then return 'no_account', spent end
  if spent > 0 and (limits.refuse_capped or spent > limits.longest) then return 'model_capped', spent end

  local certain
  job.place, job.wait, certain = forecast.wait(job, limits)
  local known, settling = certain > 0, pulse.settling(limits.gap)
  local mean = service.is_known(lane, job.family) and service.time(lane) or UNKNOWN
  local step = mean / forecast.slots(lane, limits)
  local waiting, own = 0, line.number_of(key)
  for _, sort in ipairs(vocabulary.sorts) do waiting = waiting + redis.call('ZCARD', keys.waiting(sort)) end
  local bytes = tonumber(redis.call('GET', keys.bytes) or 0)
  local most, longest = limits.max_waiting_per_key, limits.max_wait
  local own_step = math.max(step, known and job.wait / (own + 1) or mean / forecast.cap(job))
  local waits, promised, own_promised = job.wait > 0, 0, 0
  if waits and take_promise(lane, key) then
    -- The forecast may have grown meanwhile, but must not exceed the longest wait of any job.
    longest = limits.longest
    if certain > longest then
      job.promised = 1
      job.place, job.wait, certain = forecast.wait(job, limits)
    end
  elseif waits then
    promised = promised_within(keys.promises(lane), KEPT * step)
    own_promised = promised_within(keys.promised(key), KEPT * own_step)
    if known then certain = certain + own_promised * own_step end
  end
  certain = math.max(certain, settling)

  local room = job.stranger and strangers.in_doubt(lane) and OF_STRANGERS or 1
  local max_waiting, max_bytes = room * limits.max_waiting, room * limits.max_bytes
  local wait
  if waits and waiting + promised >= max_waiting then
    wait = settling + (waiting - max_waiting + FULL) * step
    return 'queue_full', promise(lane, key, limits, wait, step, step, max_waiting)
  elseif waits and own + own_promised >= most then
    wait = settling + (own - most + AHEAD) * own_step * OWN_APART
    return 'key_full', promise(lane, key, limits, wait, step, own_step, most)
  elseif bytes + job.bytes > max_bytes then
    return 'too_many_bytes', promise(lane, key, limits, settling + step, step, step, limits.max_waiting)
  elseif certain > longest then
    wait = math.max(0, job.wait - longest)
    return 'wait_too_long', promise(lane, key, limits, wait, step, own_step, limits.max_waiting)
  elseif certain > job.max_wait or waits and job.max_wait == 0 then
    -- The client's own limit: it may well go elsewhere, so no place is kept for it.
    local jitter = (clock.micros % 1000) / 1000
    wait = math.max(SECOND, (job.wait - job.max_wait) * APART + AHEAD * jitter * step)
    return 'wait_too_long', math.min(wait, limits.max_retry_after), wait <= limits.max_retry_after
  end
end

return admission

-- Who may come in. Somebody who is refused is told a moment to come back at: in the end they wait
-- outside, one behind the other. Around that moment a place is kept for them against those who were
-- told nothing.
--
-- Room is made every `step` ms on average, but not regularly. So moments are a little further apart
-- than that, the first is a few steps away, and newcomers leave free what will be wanted within the
-- next few steps. Nobody knows a caller from another of the same key: whichever comes first when a
-- promise is due takes it up; so the moment is the very one that was told. A key's own moments are as
-- far apart as there are keys outside, so that whoever collects promises, and never comes, takes no
-- more than its part of them; as it does inside.
--
-- What cannot be foreseen is what the key will owe by then: one long answer of it, beside many light
-- keys, is many minutes. Whoever takes up a promise does not wait for that, if it would be longer than
-- a job may wait: it goes as if its key were paid up. The key owes it all the same, and the next to be
-- refused is told a later moment.
--
-- While nothing is known of how long answers take, nobody is refused for a wait that is only guessed,
-- and whom else we refuse we ask to come back soon.

local PATIENCE = 10000   -- ms that a promised place is kept
local EARLY = 1          -- ms that somebody may come before their moment
local SECOND = 1000      -- moments are whole seconds away, as they are told
local APART = 1.25       -- steps between moments
local OWN_APART = 1.5    -- the same for a key's own steps, which are longer once others come
local AHEAD = 3          -- steps until the first
local KEPT = 12          -- steps ahead that newcomers leave places free
local SEARCHED = 200     -- moments that are tried before giving one without a place
local UNKNOWN = 2000     -- ms that a conversation is thought to take, there, before anything is known
local MOST = 1000        -- promises that a key may have; beyond, a moment without a place

-- Promises, of all keys or of one, that will be taken up within `ms`: those hold places.
local function promised_within(key, ms)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - PATIENCE)
  return redis.call('ZCOUNT', key, '-inf', now + SECOND + ms)
end

-- Take up a promise of this account's, if one is due. True if there was one.
local function take_promise(lane, account)
  local own = promised_key(account)
  redis.call('ZREMRANGEBYSCORE', own, '-inf', now - PATIENCE)
  local due = redis.call('ZRANGEBYSCORE', own, '-inf', now + EARLY, 'LIMIT', 0, 1)[1]
  if not due then return false end
  redis.call('ZREM', own, due)
  redis.call('ZREM', promises_key(lane), due)
  return true
end

-- When (ms from now) to come back. `wait`: when there should be room; `step`: how often room is made,
-- and `own_step` for this key; `room`: how many may wait, half of whom may come at once.
local function promise(lane, account, wait, step, own_step, room)
  local key, own, outside = promises_key(lane), promised_key(account), outside_key(lane)
  step, own_step = math.max(1, step * APART), own_step * OWN_APART
  redis.call('ZREMRANGEBYSCORE', outside, '-inf', now - PATIENCE)
  local last = tonumber(redis.call('ZSCORE', outside, account) or 0)
  local keys = redis.call('ZCARD', outside) + (last == 0 and 1 or 0)
  local first = math.max(now + (wait + AHEAD * step) * APART, last + math.max(own_step, step * keys))
  local function told(at) return now + math.max(1, math.ceil((at - now) / SECOND)) * SECOND end
  local moment = told(first)
  if redis.call('ZCARD', own) >= MOST then return moment - now end
  local width = math.max(step, SECOND)
  for n = 0, SEARCHED - 1 do
    local from = told(first + n * width / 2)
    local near = redis.call('ZCOUNT', key, '(' .. from - width, '(' .. from + width)
    local at_once = redis.call('ZCOUNT', key, from - SECOND / 2, '(' .. from + SECOND / 2)
    if near <= 2 * (width / step - 1) and at_once < math.max(1, room / 2) then
      moment = from
      break
    end
  end
  local name = account .. ' ' .. moment .. ' ' .. clock[2]
  redis.call('ZADD', key, moment, name)
  redis.call('ZADD', own, moment, name)
  redis.call('ZADD', outside, math.max(last, moment), account)
  redis.call('PEXPIRE', own, math.max(last, moment) - now + PATIENCE)
  return moment - now
end

-- Why a job may not come in, and when to come back (ms); nil if it may.
local function refusal(job, limits)
  local lane, account = job.lane, job.account
  if redis.call('ZCOUNT', WORKERS, now, '+inf') == 0 then return 'no_worker', limits.lease end
  local open = open_for()
  if open and open > 0 then return 'circuit_open', open end
  if open and (probe() or redis.call('EXISTS', queue_key(lane)) == 1) then return 'circuit_open', 5000 end

  local capped = tonumber(redis.call('ZSCORE', LATER, 'family ' .. account .. ' ' .. job.family) or 0) - now
  if capped > 0 and (limits.refuse_capped or capped > limits.longest) then return 'model_capped', capped end

  local known, mean = is_known(lane), has_learned(lane) and service(lane) or UNKNOWN
  local step = mean / lane_slots(lane, slots(limits.max_concurrency), limits.reserves)
  local waiting, own = 0, 0
  for _, name in ipairs(LANES) do
    waiting = waiting + redis.call('ZCARD', waiting_key(name))
    own = own + tonumber(redis.call('ZSCORE', backlog_key(name), account) or 0)
  end
  local bytes = tonumber(redis.call('GET', BYTES) or 0)
  local most, longest = limits.max_waiting_per_key, known and limits.max_wait or math.huge
  job.place, job.wait = predict(job, limits)
  local own_step = math.max(step, known and job.wait / (own + 1) or mean / capacity(account))
  local would, promised, own_promised = job.wait, 0, 0
  if would > 0 and take_promise(lane, account) then
    -- The wait may have grown while they were outside; it must not be more than a job may wait.
    longest = known and limits.longest or math.huge
    if would > longest then
      job.promised = 1
      job.place, job.wait = predict(job, limits)
      would = job.wait
    end
  elseif would > 0 then
    promised = promised_within(promises_key(lane), KEPT * step)
    own_promised = promised_within(promised_key(account), KEPT * own_step)
    would = would + own_promised * own_step
  end

  local wait
  if would > 0 and waiting + promised >= limits.max_waiting then
    wait = (waiting - limits.max_waiting) * step
    return 'queue_full', promise(lane, account, wait, step, step, limits.max_waiting)
  elseif would > 0 and own + own_promised >= most then
    wait = (own - most + AHEAD) * own_step
    return 'key_full', promise(lane, account, wait, step, own_step, most)
  elseif bytes + job.bytes > limits.max_bytes then
    return 'too_many_bytes', promise(lane, account, step, step, step, limits.max_waiting)
  elseif would > longest then
    wait = math.max(0, job.wait - longest)
    return 'wait_too_long', promise(lane, account, wait, step, own_step, limits.max_waiting)
  elseif job.wait > job.max_wait then
    -- Its own limit: it may well go elsewhere, so no place is kept for it.
    local jitter = (clock[2] % 1000) / 1000
    return 'wait_too_long', math.max(SECOND, (job.wait - job.max_wait) * APART + AHEAD * jitter * step)
  end
end

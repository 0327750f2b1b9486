-- Who may come in. Somebody who is refused is told a moment to come back at, and no two the same: in
-- the end they wait outside, one behind the other. Around that moment, for a while, the place that
-- comes free is kept for them against those who were told nothing.

local PATIENCE = 10000  -- ms that a promised place is kept
local EARLY = 1000      -- ms that somebody may come before their moment
local MARGIN = 1.25     -- predictions are not exact

-- Promises that are due, of all keys or of one: those hold places.
local function due_promises(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - PATIENCE)
  return redis.call('ZCOUNT', key, '-inf', now + EARLY)
end

-- Take up a promise of this account's, if one is due. True if there was one.
local function take_promise(lane, account)
  due_promises(promised_key(account))
  local due = redis.call('ZRANGEBYSCORE', promised_key(account), '-inf', now + EARLY, 'LIMIT', 0, 1)[1]
  if not due then return false end
  redis.call('ZREM', promised_key(account), due)
  redis.call('ZREM', promises_key(lane), due)
  return true
end

-- When (ms from now) to come back. `wait`: when there should be room; `step`: how often room is made.
local function promise(lane, account, wait, step, most)
  local key, own = promises_key(lane), promised_key(account)
  local last = tonumber(redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] or 0)
  local own_last = tonumber(redis.call('ZREVRANGE', own, 0, 0, 'WITHSCORES')[2] or 0)
  local jitter = (clock[2] % 1000) / 1000 * step
  local moment = math.floor(math.max(now + wait * MARGIN, last + step, own_last + step) + jitter)
  -- Whoever is refused again and again must not push everybody else's moment away.
  if redis.call('ZCARD', own) < most then
    local name = account .. ' ' .. moment .. ' ' .. clock[2]
    redis.call('ZADD', key, moment, name)
    redis.call('ZADD', own, moment, name)
    redis.call('PEXPIRE', own, moment - now + PATIENCE)
  end
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

  local mean = service(lane, nil)
  local mine = lane_slots(lane, slots(limits.max_concurrency), limits.reserves)
  local step = mean / mine
  local keys = math.max(1, redis.call('ZCARD', backlog_key(lane)))
  local own_step = math.max(mean / capacity(account), step * keys)
  local waiting, own = 0, 0
  for _, name in ipairs(LANES) do
    waiting = waiting + redis.call('ZCARD', waiting_key(name))
    own = own + tonumber(redis.call('ZSCORE', backlog_key(name), account) or 0)
  end
  local bytes = tonumber(redis.call('GET', BYTES) or 0)
  local position, wait = predict(job, limits)
  local promised, own_promised = 0, 0
  if not take_promise(lane, account) then
    promised, own_promised = due_promises(promises_key(lane)), due_promises(promised_key(account))
  end

  local most = limits.max_waiting_per_key
  local longest = math.min(limits.max_wait, job.max_wait)
  local would = wait > 0 and wait + own_promised * own_step or 0
  if would > 0 and waiting + promised >= limits.max_waiting then
    local over = waiting + promised - limits.max_waiting + 1
    return 'queue_full', promise(lane, account, over * step, step, most)
  elseif would > 0 and own + own_promised >= most then
    local over = own + own_promised - most + 1
    return 'key_full', promise(lane, account, over * own_step, own_step, most)
  elseif bytes + job.bytes > limits.max_bytes then
    return 'too_many_bytes', promise(lane, account, step, step, most)
  elseif would > longest then
    return 'wait_too_long', promise(lane, account, would - longest, own_step, most), position, would
  end
end

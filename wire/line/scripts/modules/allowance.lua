-- needs: calendar, clock, durations, keys, usage
-- Allowance of an issued key: its requests a minute, and its budgets. The record of the key is read in the script
-- that admits its job, so its limits are exact, however many front ends there are, and a change of the record
-- holds for the next request.
--
-- The requests of a key are limited by a sliding window: each accepted request counts for a minute. Times later
-- than now do not count: Redis' clock may have been set back.
local allowance = {}

local WINDOW = durations.MINUTE

-- The record of an issued key; nil if there is none.
function allowance.record(id)
  local stored = redis.call('GET', keys.issued(id))
  return stored and cjson.decode(stored) or nil
end

local function in_force(issued)
  return issued and issued.revoked == 0 and (issued.expires == 0 or clock.now < issued.expires * 1000)
end

-- Number of requests that were accepted in the last minute.
local function used(id) return redis.call('ZCOUNT', keys.recent(id), clock.now - WINDOW + 1, clock.now) end

-- Time (ms) until one request more is allowed; 0 if it is now.
local function wait_for_requests(issued)
  local over = used(issued.id) - issued.requests_per_minute
  if issued.requests_per_minute == 0 or over < 0 then return 0 end
  local window = {clock.now - WINDOW + 1, clock.now}
  local leaves = redis.call('ZRANGEBYSCORE', keys.recent(issued.id), window[1], window[2], 'WITHSCORES', 'LIMIT', over, 1)
  return leaves[2] + WINDOW - clock.now
end

-- Time (ms) until the key has a budget again; 0 if some of it is left. Tokens and units are spent when a job ends, so
-- the running ones may exceed it.
local function wait_for_budget(issued)
  local function is_spent(budget, period)
    return budget > 0 and usage.spent(issued.id, issued.budget_unit, period) >= budget
  end
  if is_spent(issued.budget_month, 'month') then return calendar.left_of_month() end
  return is_spent(issued.budget_day, 'day') and calendar.left_of_day() or 0
end

-- Reason why an issued key may have no further job now, its retry time (ms from now), and false if its client
-- should not retry by itself; nil if it may. `issued`: its record, nil if there is none.
function allowance.refusal(issued)
  if not in_force(issued) then return 'key_revoked', 0, false end
  local wait = wait_for_requests(issued)
  if wait > 0 then return 'rate_limited', wait end
  wait = wait_for_budget(issued)
  if wait > 0 then return 'budget_spent', wait, false end
end

-- Apply the limits of a record to a job and to the limits of its admission.
function allowance.apply(issued, job, limits)
  job.weight, job.key_slots = issued.weight, issued.max_running
  if issued.max_waiting > 0 then limits.max_waiting_per_key = issued.max_waiting end
  if issued.max_wait ~= cjson.null then job.max_wait = math.min(job.max_wait, issued.max_wait * 1000) end
end

-- Count a request that is accepted, under a name of its own.
function allowance.count(issued, name)
  if issued.requests_per_minute == 0 then return end
  local recent = keys.recent(issued.id)
  redis.call('ZREMRANGEBYSCORE', recent, '-inf', clock.now - WINDOW)
  redis.call('ZADD', recent, clock.now, name)
  redis.call('PEXPIRE', recent, WINDOW)
end

-- Requests that a key may make in a minute, those that are left, and the time (ms) until all are free again;
-- nothing if it has no limit.
function allowance.left(issued)
  if not issued or issued.requests_per_minute == 0 then return end
  local limit, newest = issued.requests_per_minute, redis.call('ZREVRANGEBYSCORE', keys.recent(issued.id),
    clock.now, clock.now - WINDOW + 1, 'WITHSCORES', 'LIMIT', 0, 1)
  local reset = newest[2] and newest[2] + WINDOW - clock.now or 0
  return limit, math.max(0, limit - used(issued.id)), reset
end

return allowance

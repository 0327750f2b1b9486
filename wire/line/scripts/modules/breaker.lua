-- needs: clock, durations, keys
-- The circuit breaker: when the upstream fails for every key, it gets no jobs for a while, and
-- then one job at a time until one is answered.
local breaker = {}

local SHORTEST, LONGEST = 5000, 60000   -- ms for which it stays open, doubling

-- Time (ms) for which the circuit stays open; nil if it is closed. 0: a probe may be sent.
function breaker.open_for()
  local until_ = redis.call('HGET', keys.breaker, 'until')
  return until_ and math.max(0, tonumber(until_) - clock.now)
end

-- The running job that probes the upstream, if there is one.
function breaker.probe()
  local id = redis.call('HGET', keys.breaker, 'probe')
  return id and redis.call('HGET', keys.job(id), 'state') == 'running' and id
end

-- Make a job the probe.
function breaker.set_probe(id) redis.call('HSET', keys.breaker, 'probe', id) end

-- Count a failure that any other job would have had too. The circuit opens after `limit` of them in a
-- row; a job that was tried several times counts once.
function breaker.count_failure(id, limit)
  local left = breaker.open_for()
  if left and left > 0 then return end -- the job was running when the circuit opened
  local failures = redis.call('HGET', keys.breaker, 'failures') or 0
  if redis.call('HSETNX', keys.job(id), 'failed', 1) == 1 then
    failures = redis.call('HINCRBY', keys.breaker, 'failures', 1)
  end
  if left or tonumber(failures) >= limit then
    local pause = redis.call('HGET', keys.breaker, 'pause')
    pause = math.min(LONGEST, math.max(SHORTEST, tonumber(pause or 0) * 2))
    redis.call('HSET', keys.breaker, 'until', clock.now + pause, 'pause', pause, 'failures', 0)
    redis.call('HDEL', keys.breaker, 'probe')
    redis.call('PEXPIRE', keys.breaker, durations.DAY)
  end
end

-- Close the circuit: the upstream answered. The answer may also be a refusal, since a busy or refused
-- key concerns no other.
function breaker.close() redis.call('DEL', keys.breaker) end

return breaker

-- needs: clock, durations, keys, upstreams
-- The circuit breaker of each upstream: when it fails for every account, it gets no jobs for a while, and
-- then one job at a time until one is answered.
local breaker = {}

local SHORTEST, LONGEST = 5000, 60000   -- ms for which it stays open, doubling
local DOUBTFUL = 1 / 4                  -- part of a failure that a doubtful one counts

-- The running job that probes an upstream, if there is one.
function breaker.probe(upstream)
  local id = redis.call('HGET', keys.breaker(upstream), 'probe')
  return id and redis.call('HGET', keys.job(id), 'state') == 'running' and id
end

-- Make a job the probe.
function breaker.set_probe(upstream, id) redis.call('HSET', keys.breaker(upstream), 'probe', id) end

-- Count a failure that any other job would have had too. The circuit opens after some of them in a
-- row; a job that was tried several times counts once. `doubtful`: perhaps only this job would have had it,
-- so it counts less.
function breaker.count_failure(upstream, id, doubtful)
  local name = keys.breaker(upstream)
  local left = upstreams.open_for(upstream)
  if left and left > 0 then return end -- the job was running when the circuit opened
  local failures = redis.call('HGET', name, 'failures') or 0
  if redis.call('HSETNX', keys.job(id), 'failed ' .. upstream, 1) == 1 then
    failures = redis.call('HINCRBYFLOAT', name, 'failures', doubtful and DOUBTFUL or 1)
  end
  if left and not doubtful or tonumber(failures) >= upstreams.failures(upstream) then
    local pause = redis.call('HGET', name, 'pause')
    pause = math.min(LONGEST, math.max(SHORTEST, tonumber(pause or 0) * 2))
    redis.call('HSET', name, 'until', clock.now + pause, 'pause', pause, 'failures', 0)
    redis.call('HDEL', name, 'probe')
    redis.call('PEXPIRE', name, durations.DAY)
  end
end

-- Close the circuit: the upstream answered. The answer may also be a refusal, since a busy or refused
-- account concerns no other.
function breaker.close(upstream) redis.call('DEL', keys.breaker(upstream)) end

return breaker

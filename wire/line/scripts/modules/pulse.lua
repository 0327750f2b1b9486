-- needs: clock, hash, keys, metrics
-- Detects disturbances, after which nothing is claimed or reclaimed for a while.
local pulse = {}

-- Time (ms) since the last disturbance. A restart of Redis (another run id) and a time without calls
-- (a freeze, a partition, a clock that was set) are disturbances: leases may then have expired only
-- because no process could renew them, and after a Redis that lost its last second, workers may hold
-- conversations that it has no record of. `gap`: time without calls (ms) that is a disturbance.
function pulse.undisturbed(gap)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local known, at, since = hash.get(keys.pulse, 'run', 'at', 'since')
  since = tonumber(since)
  if known ~= run or math.abs(clock.now - tonumber(at)) > gap then
    since = clock.now
    metrics.count('gateway_repairs_total', {what = 'disturbance'})
  end
  redis.call('HSET', keys.pulse, 'run', run, 'at', clock.now, 'since', since)
  return clock.now - since
end

return pulse

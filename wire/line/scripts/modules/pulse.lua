-- needs: clock, hash, keys, metrics
-- Detects disturbances, after which nothing is claimed or reclaimed for a while. A restart of Redis
-- (another run id), a Redis without its data and a time without calls (a freeze, a partition, a clock
-- that was set) are disturbances: leases may then have expired only because no process could renew
-- them, and after a Redis that lost some of its data, workers may hold conversations that it has no
-- record of. `gap`, here: time without calls (ms) that is a disturbance; after one, the line settles for
-- as long.
local pulse = {}

local left  -- result of `settling` in this run of a script

local function run_id() return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') end

-- Time of the last known disturbance (ms); nil if there has been one that no call has noted yet.
local function calm_since(run, gap)
  local known, at, since = hash.get(keys.pulse, 'run', 'at', 'since')
  -- Nobody has called in a new Redis, which has no `at`.
  if known ~= run or at and math.abs(clock.now - tonumber(at)) > gap then return nil end
  return tonumber(since)
end

-- Note a call. Returns the time (ms) since the last disturbance.
function pulse.undisturbed(gap)
  local run = run_id()
  local since = calm_since(run, gap)
  if not since then
    since = clock.now
    metrics.count('gateway_repairs_total', {what = 'disturbance'})
  end
  redis.call('HSET', keys.pulse, 'run', run, 'at', clock.now, 'since', since)
  return clock.now - since
end

-- Time (ms) for which the line still settles: nothing is claimed until then. Changes nothing.
function pulse.settling(gap)
  left = left or math.max(0, (calm_since(run_id(), gap) or clock.now) + gap - clock.now)
  return left
end

-- Note that this Redis is new: no worker can hold a conversation, so the line need not settle.
function pulse.note_new() redis.call('HSET', keys.pulse, 'run', run_id(), 'since', 0) end

return pulse

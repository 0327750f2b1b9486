-- The clock, and whether all has been well; after _metrics. Scripts beside those of the line share it.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) -- ms

local PULSE = 'gateway:pulse'

local function fields(key, ...) return unpack(redis.call('HMGET', key, ...), 1, select('#', ...)) end

-- How long (ms) Redis and its clients have been going on undisturbed. A restart (another run id)
-- and a time in which nobody called (a freeze, a partition, a clock that was set) count from zero
-- again: leases may then be past their end only because nobody could renew them, and with a Redis
-- that lost its last second, workers may hold conversations that it does not know of.
local function undisturbed(gap)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local known, at, since = fields(PULSE, 'run', 'at', 'since')
  since = tonumber(since)
  if known ~= run or math.abs(now - tonumber(at)) > gap then
    since = now
    count('gateway_repairs_total', {what = 'disturbance'})
  end
  redis.call('HSET', PULSE, 'run', run, 'at', now, 'since', since)
  return now - since
end

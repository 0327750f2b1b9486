-- needs: forecast, hash, keys, upstreams, why
-- Jobs, as operators see them. ARGV: limits, names of the fields to be returned (both as msgpack), ids. Returns
-- {number of ids that were looked at, at least one, {{id, the fields, place, wait (ms), why it waits, until when (ms) or
-- ''}, ...}}, with place 0 if it is not waiting; without the jobs that are not known.
local limits, fields = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

local WAITING = 25     -- jobs whose waits are forecast
local LOOKED_AT = 300  -- accounts that keys share, for these forecasts

-- Work so far: waiting jobs, and accounts of their lanes.
local waiting, accounts, of_lanes = 0, 0, {}
local function may_forecast(lane)
  if not of_lanes[lane] then
    of_lanes[lane] = true
    accounts = accounts + upstreams.number_of_accounts(lane)
  end
  waiting = waiting + 1
  return waiting == 1 or waiting <= WAITING and accounts <= LOOKED_AT
end

local seen, found = 0, {}
for n = 3, #ARGV do
  local id = ARGV[n]
  local job = hash.some(keys.job(id), 'state', 'lane', 'key', 'family', 'account')
  if job.state == 'waiting' and not may_forecast(job.lane) then break end
  seen = seen + 1
  if job.key then -- else a record that only keeps a job out
    local record, place, wait, word, until_ = redis.call('HMGET', keys.job(id), unpack(fields)), 0, 0, '', ''
    if job.state == 'waiting' then
      place, wait = forecast.of(id, limits)
      word, until_ = why.of(id, job, redis.call('ZSCORE', keys.queue(job.lane), id), limits.gap)
    end
    found[#found + 1] = {id, record, place, wait, word, until_ or ''}
  end
end
return {seen, found}

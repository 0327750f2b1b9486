-- needs: accounts, breaker, clock, keys, lanes, pauses, pulse, upstreams
-- Reasons for which jobs wait: the words are in wire/line/board.py. Each has a time (ms) at which it will be over, which
-- is `math.huge` if that is not known.
local why = {}

local of_lanes = {} -- what this run of a script has found

-- The later one of two reasons.
local function later(word, at, other, its_at)
  if other and its_at > at then return other, its_at end
  return word, at
end

-- Why an upstream takes no job, if it does not: else nil and 0.
local function untaken_at(name)
  local word, at, open = nil, 0, upstreams.open_for(name)
  if open and open > 0 then
    word, at = 'circuit', clock.now + open
  elseif open and breaker.probe(name) then
    word, at = 'circuit', clock.now + 1 -- until the probe is answered
  end
  local paused = pauses.end_of('upstream', name)
  return later(word, at, paused > clock.now and 'paused', paused)
end

-- The reason of the upstream of a lane that takes a job first; nil and 0 if one does now.
local function untaken(lane)
  local word, soonest = 'no_worker', math.huge
  for _, name in ipairs(upstreams.live(lane)) do
    local its_word, at = untaken_at(name)
    if at < soonest or word == 'no_worker' then word, soonest = its_word, at end
  end
  return word, soonest
end

-- Why no account can be used for a job; nil and 0 if one can.
local function blocked(job)
  local until_, account = upstreams.blocked_until(job)
  if until_ <= clock.now then return nil, 0 end
  local name = account or job.key
  if accounts.is_paused(name) then return 'paused', pauses.end_of('account', name) end
  local parked = accounts.parked_until(name, lanes.model(job.lane) or job.family)
  return parked == until_ and 'parked' or 'cooling', until_
end

-- For all jobs of a lane: why its upstreams take none, and why no account that keys share can be used.
local function of_lane(lane)
  if not of_lanes[lane] then
    local word, at = untaken(lane)
    if not lanes.is_own(lane) then word, at = later(word, at, blocked({lane = lane})) end
    of_lanes[lane] = {word = word, at = at}
  end
  return of_lanes[lane].word, of_lanes[lane].at
end

-- Why a waiting job does, and until when (ms), if that is known: the reason that lasts longest. A job is `queued` if it
-- is in the queue, else its key has no seat for it.
function why.of(id, job, queued, gap)
  local own = job.account == job.key
  local word, at = of_lane(job.lane)
  if own then word, at = later(word, at, blocked(job)) end
  word, at = later(word, at, 'retry', tonumber(redis.call('ZSCORE', keys.later, 'job ' .. id) or 0))
  if at > clock.now then return word, at < math.huge and at > clock.now + 1 and at or nil end

  local settles = pulse.settling(gap)
  if queued and settles > 0 then return 'settling', clock.now + settles end
  if queued then return 'slot' end
  return own and accounts.free(job.key) <= 0 and 'account' or 'key'
end

return why

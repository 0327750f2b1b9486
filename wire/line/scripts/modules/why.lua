-- needs: accounts, breaker, clock, keys, lanes, pulse, upstreams
-- Reasons for which jobs wait: the words are in wire/line/board.py.
local why = {}

local of_lanes = {} -- what this run of a script has found

-- Why none of a lane's upstreams takes a job, and until when (ms), if that is known; nil if one does.
local function untaken(lane)
  local live, soonest = upstreams.live(lane), nil
  if #live == 0 then return 'no_worker' end
  for _, name in ipairs(live) do
    local open = upstreams.open_for(name)
    if not open or open == 0 and not breaker.probe(name) then return end
    if open > 0 then soonest = math.min(soonest or math.huge, clock.now + open) end
  end
  return 'circuit', soonest
end

-- Why no account can be used for a job, and until when; nil if one can.
local function blocked(job)
  local until_, account = upstreams.blocked_until(job)
  if until_ <= clock.now then return end
  local family = lanes.model(job.lane) or job.family
  return accounts.parked_until(account or job.key, family) == until_ and 'parked' or 'cooling', until_
end

-- For all jobs of a lane: why its upstreams take none, and why no account that keys share can be used.
local function of_lane(lane)
  if not of_lanes[lane] then
    local found = {}
    found.untaken, found.untaken_until = untaken(lane)
    if not lanes.is_own(lane) then found.blocked, found.blocked_until = blocked({lane = lane}) end
    of_lanes[lane] = found
  end
  return of_lanes[lane]
end

-- Why a waiting job does, and until when (ms), if that is known: what lasts longest. A job is `queued` if it is in the
-- queue, else its key has no seat for it.
function why.of(id, job, queued, gap)
  local lane = of_lane(job.lane)
  if lane.untaken and not lane.untaken_until then return lane.untaken end
  local word, until_ = lane.untaken, lane.untaken_until or 0
  local function also(reason, at)
    if reason and at > until_ then word, until_ = reason, at end
  end
  also(lane.blocked, lane.blocked_until)
  local own = job.account == job.key
  if own then also(blocked(job)) end
  also('retry', tonumber(redis.call('ZSCORE', keys.later, 'job ' .. id) or 0))
  if until_ > clock.now then return word, until_ end

  local settles = pulse.settling(gap)
  if queued and settles > 0 then return 'settling', clock.now + settles end
  if queued then return 'slot' end
  return own and accounts.free(job.key) <= 0 and 'account' or 'key'
end

return why

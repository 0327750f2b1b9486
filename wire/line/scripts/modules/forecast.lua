-- needs: caps, clock, fairness, hash, keys, service, vocabulary
-- Forecast of a waiting job's place and wait. The wait is the longer of two: the wait in its account's
-- own line, and the wait for the work that goes before it in its lane.
--
-- It assumes that conversations take as long as they did, that the keys that wait now go on waiting
-- until the job's turn, each served by its weight, and that the keys that only run wait half of the
-- time. Nothing but service times is learned; docs/line.md says how good that is. Every loop is bounded.
local forecast = {}

local LOOKED_AT = 100   -- keys, and running jobs, that are looked at one by one
local RUNS = 1 / 2      -- part of the time for which a key that only runs is waiting
local OVERTAKING = 0.3  -- jobs that arrive later and go first, for each job that waits before this one
local DOUBT = 1 / 3     -- part of a wait that is uncertain, if lengths vary much or other keys make it

local function exactly(number) return string.format('%.17g', number) end

-- Time (ms) until which the account cannot be used for this family; in the past, or 0, if it can.
local function blocked_until(account, family)
  return math.max(tonumber(redis.call('ZSCORE', keys.later, 'account ' .. account) or 0),
    tonumber(redis.call('ZSCORE', keys.later, 'family ' .. account .. ' ' .. family) or 0))
end

-- Number and slot time of the account's jobs in its lines that go before this one; then the same for
-- jobs of its lane alone.
local function own_before(job)
  local account, number, work, lane_number, lane_work = job.account, 0, 0, 0, 0
  for _, line in ipairs(redis.call('SMEMBERS', keys.lines(account))) do
    local lane, family = string.match(line, '^(%S+) (%S+)$')
    local some = redis.call('ZCOUNT', keys.line(account, lane, family), '-inf', '(' .. exactly(job.line_tag))
    local its_work = some > 0 and some * service.time(lane, family, account) or 0
    if lane == job.lane then lane_number, lane_work = lane_number + some, lane_work + its_work end
    number, work = number + some, work + its_work
  end
  return number, work, lane_number, lane_work
end

-- Wait (ms) in an account's own line, behind `own` jobs with `work` slot time: one conversation ends,
-- the next job waits in the queue (`seat_wait`), and so on.
local function wait_in_line(job, own, work, seat_wait)
  local mean = service.time(job.lane, job.family, job.account)
  local cap, held = caps.of(job.account), redis.call('ZCARD', keys.running(job.account))
  local queued = redis.call('SCARD', keys.queued(job.account))
  local turns = own + queued + 1 - math.max(0, cap - held)
  local wait = 0
  if turns > 0 and held == 0 then
    wait = turns * (mean + seat_wait) / cap -- the first are about to begin
  elseif turns > 0 then
    local oldest = redis.call('ZRANGE', keys.running(job.account), 0, 0, 'WITHSCORES')
    local lane, family = hash.get(keys.job(oldest[1]), 'lane', 'family')
    local length, varies = service.time(lane or job.lane, family or job.family, job.account)
    -- A conversation that has taken longer than most may end at any time, but has not yet.
    local left = (1 - varies) * math.max(length / 4, length - (clock.now - oldest[2])) + varies * length / held
    local each = own > 0 and work / own or mean
    wait = left + (turns - 1) * (each + seat_wait) / cap + seat_wait
  end
  return math.max(wait, blocked_until(job.account, job.family) - clock.now)
end

local function weight_of(account) return tonumber(redis.call('HGET', keys.account(account), 'weight') or 1) end

-- Weights of the keys that wait in a lane, and of those that only run, by key; their sums; the number
-- of the former that were looked at, and of all.
local function weights_in(lane)
  local found = {waits = {}, waiting = 0, seen = 0, all = redis.call('ZCARD', keys.backlog(lane)), runs = {}, running = 0}
  for _, account in ipairs(redis.call('ZREVRANGE', keys.backlog(lane), 0, LOOKED_AT - 1)) do
    local weight = weight_of(account)
    found.waits[account], found.waiting, found.seen = weight, found.waiting + weight, found.seen + 1
  end
  for _, id in ipairs(redis.call('ZRANGE', keys.leases(lane), 0, LOOKED_AT - 1)) do
    local account = redis.call('HGET', keys.job(id), 'account')
    if account and not found.runs[account] and not redis.call('ZSCORE', keys.backlog(lane), account) then
      local weight = weight_of(account)
      found.runs[account], found.running = weight, found.running + weight
    end
  end
  return found
end

-- Weight of the other keys in a lane: all that wait, and half of those that only run.
local function rivals(weights, account)
  local own = weights.waits[account]
  local sum, seen = weights.waiting - (own or 0), weights.seen - (own and 1 or 0)
  if weights.all > LOOKED_AT then sum = sum * weights.all / seen end
  return sum + (weights.running - (weights.runs[account] or 0)) * RUNS
end

local lanes = {} -- the state of each lane that this run of a script has read

-- State of a lane, which all its jobs share: service time, slots, virtual time, weights of its keys.
local function lane_state(lane, limits)
  if lanes[lane] then return lanes[lane] end
  local mean, varies = service.time(lane)
  local all, busy = caps.slots(limits.max_concurrency), 0
  for _, name in ipairs(vocabulary.lanes) do busy = busy + redis.call('ZCARD', keys.leases(name)) end
  local at, newest = hash.get(keys.lane(lane), 'now', 'newest')
  lanes[lane] = {
    mean = mean,
    varies = varies,
    slots = caps.lane_slots(lane, all, limits.reserves),
    free = math.max(0, all - busy),
    at = tonumber(at or 1),
    newest = tonumber(newest or 1),
    weights = weights_in(lane),
  }
  return lanes[lane]
end

-- The account's jobs in other lanes that have its seats: account, lane, family, and the tag of a job
-- that waits in its lane's queue.
local function in_other_lanes(job)
  local found = {}
  local function look(ids)
    for _, id in ipairs(ids) do
      local lane, family, tag, state = hash.get(keys.job(id), 'lane', 'family', 'tag', 'state')
      if lane and lane ~= job.lane then
        tag = state == 'waiting' and tonumber(tag) or nil
        found[#found + 1] = {account = job.account, lane = lane, family = family, tag = tag}
      end
    end
  end
  look(redis.call('SMEMBERS', keys.queued(job.account)))
  look(redis.call('ZRANGE', keys.running(job.account), 0, LOOKED_AT - 1))
  return found
end

-- A waiting job's place in its lane, counted from 1; its wait (ms); and the part of the wait that is
-- certain, 0 if the wait is only a guess. Fields of the job: `tag`, its tag if it is in the queue, else nil; `line_tag`, its tag among its
-- key's users; `promised`, if it does not wait until its key has paid.
function forecast.wait(job, limits)
  local lane, account = job.lane, job.account
  local now = lane_state(lane, limits)
  local mean, varies, mine, free, at, newest = now.mean, now.varies, now.slots, now.free, now.at, now.newest
  local begins = (1 + varies) / 2 * mean -- remaining time of a running conversation

  local tag, own, own_work, own_wait, known = job.tag, 0, 0, 0, service.is_known(lane, job.family)
  if not tag then -- the tag it would get if the jobs of its key before it were paid for now
    local all_own, all_work
    all_own, all_work, own, own_work = own_before(job)
    local earliest = job.promised and at or fairness.earliest(lane, account)
    tag = (earliest > at and earliest or math.max(at, newest)) + own_work / job.weight
    local ahead = free > 0 and 0 or redis.call('ZCOUNT', keys.queue(lane), '-inf', exactly(newest))
    own_wait = wait_in_line(job, all_own, all_work, ahead * mean / mine)
    for _, other in ipairs(in_other_lanes(job)) do
      known = known and service.is_known(other.lane, other.family)
      if other.tag and caps.of(account) == 1 then -- it has the account's only seat
        local _, its_wait = forecast.wait(other, limits)
        own_wait = math.max(own_wait, its_wait + service.time(other.lane, other.family, account))
      end
    end
  end

  local queued = redis.call('ZCOUNT', keys.queue(lane), '-inf', (job.tag and '(' or '') .. exactly(tag))
  -- Until its tag, each other key is served by its weight; and first, all jobs that are in the queue now.
  local shared = rivals(now.weights, account) * (tag - at)
  local place = own + math.max(queued, shared / mean)
  local before = math.max(queued * mean, shared + OVERTAKING * queued * mean)
  local wait = 0
  if place + 1 > free then wait = math.max(0, (before + own_work + begins - free * mean) / mine) end
  wait = math.floor(math.max(wait, own_wait))
  local doubt = DOUBT * math.max(varies, before / (before + own_work + 1))
  return 1 + math.floor(place + 0.5), wait, known and wait * (1 - doubt) * service.certain(lane) or 0
end

-- Place and wait (ms) of a job as it is in Redis; 0 and 0 if it is not waiting.
function forecast.of(id, limits)
  local state, lane, account, family, line_tag, weight, promised =
    hash.get(keys.job(id), 'state', 'lane', 'account', 'family', 'line_tag', 'weight', 'promised')
  if state ~= 'waiting' then return 0, 0 end
  local queued = redis.call('ZSCORE', keys.queue(lane), id)
  local place, wait = forecast.wait({
    lane = lane,
    account = account,
    family = family,
    line_tag = tonumber(line_tag),
    weight = tonumber(weight),
    promised = promised,
    tag = queued and tonumber(queued),
  }, limits)
  local not_before = tonumber(redis.call('ZSCORE', keys.later, 'job ' .. id) or clock.now) - clock.now
  return place, math.max(wait, not_before)
end

return forecast

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

-- Weight of the other keys in a lane: all that wait, and half of those that only run.
local function rivals(lane, account)
  local sum, seen, only_run = 0, 0, {}
  for _, other in ipairs(redis.call('ZREVRANGE', keys.backlog(lane), 0, LOOKED_AT - 1)) do
    if other ~= account then sum, seen = sum + weight_of(other), seen + 1 end
  end
  local all = redis.call('ZCARD', keys.backlog(lane))
  if all > LOOKED_AT then sum = sum * all / seen end
  for _, id in ipairs(redis.call('ZRANGE', keys.leases(lane), 0, LOOKED_AT - 1)) do
    local other = redis.call('HGET', keys.job(id), 'account')
    if other and other ~= account and not only_run[other] and not redis.call('ZSCORE', keys.backlog(lane), other) then
      only_run[other] = true
      sum = sum + weight_of(other) * RUNS
    end
  end
  return sum
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
  local mean, varies = service.time(lane)
  local all = caps.slots(limits.max_concurrency)
  local mine = caps.lane_slots(lane, all, limits.reserves)
  local busy = 0
  for _, name in ipairs(vocabulary.lanes) do busy = busy + redis.call('ZCARD', keys.leases(name)) end
  local free = math.max(0, all - busy)
  local begins = (1 + varies) / 2 * mean -- remaining time of a running conversation

  local at, newest = hash.get(keys.lane(lane), 'now', 'newest')
  at, newest = tonumber(at or 1), tonumber(newest or 1)
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
  local shared = rivals(lane, account) * (tag - at)
  local place = own + math.max(queued, shared / mean)
  local before = math.max(queued * mean, shared + OVERTAKING * queued * mean)
  local wait = 0
  if place + 1 > free then wait = math.max(0, (before + own_work + begins - free * mean) / mine) end
  wait = math.floor(math.max(wait, own_wait))
  local doubt = DOUBT * math.max(varies, before / (before + own_work + 1))
  return 1 + math.floor(place + 0.5), wait, known and wait * (1 - doubt) or 0
end

return forecast

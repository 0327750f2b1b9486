-- needs: caps, clock, fairness, hash, keys, pulse, queue, service, strangers, vocabulary
-- Forecast of a waiting job's place and wait. The wait is the longer of two: the wait in its account's
-- own line, and the wait for the work that goes before it in its lane.
--
-- It assumes that conversations take as long as they did, that the keys that wait now go on waiting
-- until the job's turn, each served by its weight, and that the keys that only run wait half of the
-- time; and of strangers in doubt, that none of them gets an answer. While the line settles, free slots
-- stay free. Nothing but service times is learned; docs/line.md says how good that is. Every loop is
-- bounded.
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

-- The forecasts of one run of a script share the state of each lane, queue and account: nothing of it may
-- change between them.
local lanes, accounts, are_strangers, extents = {}, {}, {}, {}

local function is_stranger(account)
  if are_strangers[account] == nil then are_strangers[account] = strangers.is_one(account) end
  return are_strangers[account]
end

-- State of an account, which all its jobs share: its lines, its cap, the seats that it holds, its oldest
-- running job, and all jobs in its seats.
local function account_state(account)
  if accounts[account] then return accounts[account] end
  local running = redis.call('ZRANGE', keys.running(account), 0, LOOKED_AT - 1, 'WITHSCORES')
  local state = {
    lines = redis.call('SMEMBERS', keys.lines(account)),
    cap = caps.of(account),
    held = redis.call('ZCARD', keys.running(account)),
    oldest = running[1],
    since = tonumber(running[2]),
    jobs = redis.call('SMEMBERS', keys.queued(account)),
    blocked = {},
    earliest = {},
  }
  state.queued = #state.jobs
  for i = 1, #running, 2 do state.jobs[#state.jobs + 1] = running[i] end
  for i, id in ipairs(state.jobs) do
    local lane, family, tag, its = hash.get(keys.job(id), 'lane', 'family', 'tag', 'state')
    state.jobs[i] = {account = account, lane = lane, family = family, tag = its == 'waiting' and tonumber(tag) or nil}
    if id == state.oldest then state.oldest = state.jobs[i] end
  end
  accounts[account] = state
  return state
end

-- Result of a function of the account and a name, called once.
local function once(results, name, read, ...)
  results[name] = results[name] or read(...)
  return results[name]
end

-- Number and slot time of the account's jobs in its lines that go before this one; then the same for
-- jobs of its lane alone.
local function own_before(job)
  local account, number, work, lane_number, lane_work = job.account, 0, 0, 0, 0
  for _, line in ipairs(account_state(account).lines) do
    local lane, family = string.match(line, '^(%S+) (%S+)$')
    local its_line = keys.line(account, lane, family)
    -- Of a short sorted set, Redis would parse all scores to count some of them.
    local some = job.id and redis.call('ZRANK', its_line, job.id)
      or redis.call('ZCOUNT', its_line, '-inf', '(' .. exactly(job.line_tag))
    local its_work = some > 0 and some * service.time(lane, family, account) or 0
    if lane == job.lane then lane_number, lane_work = lane_number + some, lane_work + its_work end
    number, work = number + some, work + its_work
  end
  return number, work, lane_number, lane_work
end

-- Wait (ms) in an account's own line, behind `own` jobs with `work` slot time: one conversation ends,
-- the next job waits in the queue (`seat_wait`), and so on.
local function wait_in_line(job, own, work, seat_wait, settling)
  local mean = service.time(job.lane, job.family, job.account)
  local its = account_state(job.account)
  local turns = own + its.queued + 1 - math.max(0, its.cap - its.held)
  local wait = 0
  if turns > 0 and its.held == 0 then
    wait = settling + turns * (mean + seat_wait) / its.cap -- the first are about to begin
  elseif turns > 0 then
    local length, varies = service.time(its.oldest.lane or job.lane, its.oldest.family or job.family, job.account)
    -- A conversation that has taken longer than most may end at any time, but has not yet.
    local left = (1 - varies) * math.max(length / 4, length - (clock.now - its.since)) + varies * length / its.held
    local each = own > 0 and work / own or mean
    wait = left + (turns - 1) * (each + seat_wait) / its.cap + seat_wait
  end
  return math.max(wait, once(its.blocked, job.family, blocked_until, job.account, job.family) - clock.now)
end

local function weight_of(account) return tonumber(redis.call('HGET', keys.account(account), 'weight') or 1) end

-- Weights of the keys that wait in a lane, and of those that only run, by key; their sums; the number
-- of the former that were looked at, and of all. Without the given number of strangers that are in doubt.
local function weights_in(lane, in_doubt)
  local all = redis.call('ZCARD', keys.backlog(lane)) - in_doubt
  local found = {waits = {}, waiting = 0, seen = 0, all = all, runs = {}, running = 0}
  for _, account in ipairs(redis.call('ZREVRANGE', keys.backlog(lane), 0, LOOKED_AT - 1)) do
    if in_doubt == 0 or not is_stranger(account) then
      local weight = weight_of(account)
      found.waits[account], found.waiting, found.seen = weight, found.waiting + weight, found.seen + 1
    end
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
  if weights.all > weights.seen then sum = seen > 0 and sum * weights.all / seen or weights.all end
  return sum + (weights.running - (weights.runs[account] or 0)) * RUNS
end

-- State of a lane, which all its jobs share: service time, slots, virtual time, weights of its keys.
local function lane_state(lane, limits)
  if lanes[lane] then return lanes[lane] end
  local mean, varies = service.time(lane)
  local all, busy = caps.slots(limits.max_concurrency), 0
  for _, name in ipairs(vocabulary.lanes) do busy = busy + redis.call('ZCARD', keys.leases(name)) end
  local free = math.max(0, all - busy)
  local at, newest = hash.get(keys.lane(lane), 'now', 'newest')
  newest = tonumber(newest or 1)
  local in_doubt = strangers.in_doubt(lane) and redis.call('ZCARD', keys.strangers(lane)) or 0
  local ahead = in_doubt > 0 and keys.regulars(lane) or keys.queue(lane)
  lanes[lane] = {
    mean = mean,
    varies = varies,
    slots = caps.lane_slots(lane, all, limits.reserves),
    free = free,
    settling = pulse.settling(limits.gap),
    at = tonumber(at or 1),
    newest = newest,
    ahead = free > 0 and 0 or redis.call('ZCOUNT', ahead, '-inf', exactly(newest)),
    weights = weights_in(lane, in_doubt),
    in_doubt = in_doubt,
    regulars = redis.call('ZCARD', keys.regulars(lane)),
    waiting = redis.call('ZCARD', keys.waiting(lane)),
    unanswered = service.unanswered(lane),
  }
  return lanes[lane]
end

local function extent(key)
  local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  return {number = redis.call('ZCARD', key), highest = tonumber(last[2] or 0)}
end

-- Number of the jobs in a queue up to a tag; if `below`, without those that have it.
local function number_until(key, tag, below)
  local all = once(extents, key, extent, key)
  if tag > all.highest then return all.number end
  return redis.call('ZCOUNT', key, '-inf', (below and '(' or '') .. exactly(tag))
end

-- Number and slot time of the jobs that go before a job with this tag in its lane, `own` of its key; and
-- the part of the time that is certain even if strangers are in doubt and the regulars stop.
local function before_in_lane(now, job, tag, own)
  local function waiting(key) return number_until(key, tag, job.tag) end
  local mean, lane = now.mean, job.lane
  local strange = is_stranger(job.account)
  local first = strange and waiting(keys.strangers(lane)) or 0 -- strangers that go before it
  local between = queue.BETWEEN * (first + own + 1)                -- regulars among them, at most
  if strange and now.in_doubt > 0 then
    if now.waiting == now.in_doubt then between = 0 end
    local short = first * now.unanswered
    return own + first + between, short + between * mean, short + math.min(between, now.regulars) * mean
  end

  -- Until its tag, each other key is served by its weight; and first, all jobs that are in the queue now.
  local queued = waiting(now.in_doubt > 0 and keys.regulars(lane) or keys.queue(lane))
  local shared = rivals(now.weights, job.account) * (tag - now.at)
  local number = math.max(queued, shared / mean)
  local work = math.max(queued * mean, shared + OVERTAKING * queued * mean)
  if strange then
    number, work = math.min(number, first + between), math.min(work, (first + between) * mean)
  end
  local others = math.min(now.in_doubt, number / queue.BETWEEN) -- strangers among them
  return own + number + others, work + others * now.unanswered, work
end

-- A waiting job's place in its lane, counted from 1; its wait (ms); and the part of the wait that is
-- certain, 0 if the wait is only a guess. Fields of the job: `id`, unless it is new; `tag`, its tag if it
-- is in the queue, else nil; `line_tag`, its tag among its key's users; `promised`, if it does not wait until
-- its key has paid.
function forecast.wait(job, limits)
  local lane, account = job.lane, job.account
  local now = lane_state(lane, limits)
  local mean, varies, mine, free, at, newest = now.mean, now.varies, now.slots, now.free, now.at, now.newest
  local begins = (1 + varies) / 2 * mean -- remaining time of a running conversation

  local tag, own, own_work, own_wait, known = job.tag, 0, 0, 0, service.is_known(lane, job.family)
  if not tag then -- the tag it would get if the jobs of its key before it were paid for now
    local all_own, all_work
    all_own, all_work, own, own_work = own_before(job)
    local its = account_state(account)
    local earliest = job.promised and at or once(its.earliest, lane, fairness.earliest, lane, account)
    tag = (earliest > at and earliest or math.max(at, newest)) + own_work / job.weight
    own_wait = wait_in_line(job, all_own, all_work, now.ahead * mean / mine, now.settling)
    for _, other in ipairs(its.jobs) do
      if other.lane and other.lane ~= lane then
        known = known and service.is_known(other.lane, other.family)
        if other.tag and its.cap == 1 then -- it has the account's only seat
          local _, its_wait = forecast.wait(other, limits)
          own_wait = math.max(own_wait, its_wait + service.time(other.lane, other.family, account))
        end
      end
    end
  end

  local place, before, certain = before_in_lane(now, job, tag, own)
  local function wait_for(work)
    local wait = 0
    if place + 1 > free then
      wait = math.max(0, (work + own_work + begins - free * mean) / mine) + now.settling * math.min(1, free / mine)
    end
    return math.floor(math.max(wait, own_wait, now.settling))
  end
  local doubt = DOUBT * math.max(varies, before / (before + own_work + 1))
  certain = known and wait_for(certain) * (1 - doubt) * service.certain(lane) or 0
  return 1 + math.floor(place + 0.5), wait_for(before), certain
end

-- Place and wait (ms) of a job as it is in Redis; 0 and 0 if it is not waiting.
function forecast.of(id, limits)
  local state, lane, account, family, line_tag, weight, promised =
    hash.get(keys.job(id), 'state', 'lane', 'account', 'family', 'line_tag', 'weight', 'promised')
  if state ~= 'waiting' then return 0, 0 end
  local queued = redis.call('ZSCORE', keys.queue(lane), id)
  local place, wait = forecast.wait({
    id = id,
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

-- needs: accounts, clock, fairness, hash, keys, line, pulse, queue, service, strangers, upstreams
-- Forecast of a waiting job's place and wait. The wait is the longer of two: the wait in its key's
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

-- The forecasts of one run of a script share the state of each lane, queue and key: nothing of it may
-- change between them.
local states, seats, are_strangers, extents = {}, {}, {}, {}

local function is_stranger(key)
  if are_strangers[key] == nil then are_strangers[key] = strangers.is_one(key) end
  return are_strangers[key]
end

-- Jobs that a key may have at once, of those that run on the same account as this one or on any.
function forecast.cap(job)
  local cap = line.cap(job.key)
  return job.account == job.key and math.min(cap, accounts.cap(job.key)) or cap
end

-- State of the seats that a job may get, which all jobs of its key share: their number, those that are held,
-- the oldest running job, and all jobs in them; and the key's lines. The seats of a key's own account are
-- counted apart.
local function seats_of(job)
  local key, own = job.key, job.account == job.key
  local name = own and key .. ' own' or key
  if seats[name] then return seats[name] end
  local running = redis.call('ZRANGE', keys.running(key), 0, LOOKED_AT - 1, 'WITHSCORES')
  local state = {
    lines = redis.call('SMEMBERS', keys.lines(key)),
    cap = forecast.cap(job),
    held = own and redis.call('SCARD', keys.holds(key)) or redis.call('ZCARD', keys.running(key)),
    queued = 0,
    jobs = {},
    blocked = {},
    paused = {},
    earliest = {},
  }
  local function add(id, since)
    local lane, family, account, tag = hash.get(keys.job(id), 'lane', 'family', 'account', 'tag')
    if not lane or own and account ~= key then return end
    local seated = {key = key, lane = lane, family = family, account = account}
    state.jobs[#state.jobs + 1] = seated
    if not since then
      state.queued, seated.tag = state.queued + 1, tonumber(tag)
    elseif not state.since then
      state.oldest, state.since = seated, tonumber(since)
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', keys.queued(key))) do add(id) end
  for i = 1, #running, 2 do add(running[i], running[i + 1]) end
  seats[name] = state
  return state
end

-- Result of a function of the key and a name, called once.
local function once(results, name, read, ...)
  results[name] = results[name] or read(...)
  return results[name]
end

-- Number and slot time of the key's jobs in its lines that go before this one; then the same for
-- jobs of its lane alone.
local function own_before(job)
  local key, number, work, lane_number, lane_work = job.key, 0, 0, 0, 0
  for _, described in ipairs(seats_of(job).lines) do
    local lane, family, shared = string.match(described, '^(%S+) (%S+)(.*)$')
    if (shared == '') == (job.account == key) then -- they wait for the same seats
      local its_line = keys.line(key, lane, family)
      -- Of a short sorted set, Redis would parse all scores to count some of them.
      local some = job.id and redis.call('ZRANK', its_line, job.id)
        or redis.call('ZCOUNT', its_line, '-inf', '(' .. exactly(job.line_tag))
      local its_work = some > 0 and some * service.time(lane, family, key) or 0
      if lane == job.lane then lane_number, lane_work = lane_number + some, lane_work + its_work end
      number, work = number + some, work + its_work
    end
  end
  return number, work, lane_number, lane_work
end

-- Wait (ms) until an operator's pause of all that could run a job is over; 0 if there is none.
local function pause_of(job)
  local its = seats_of(job)
  return math.max(0, once(its.paused, job.lane, upstreams.paused_until, job) - clock.now)
end

-- Wait (ms) in the key's own line, behind `own` jobs with `work` slot time: one conversation ends,
-- the next job waits in the queue (`seat_wait`), and so on.
local function wait_in_line(job, own, work, seat_wait, settling)
  local mean = service.time(job.lane, job.family, job.key)
  local its = seats_of(job)
  local turns = own + its.queued + 1 - math.max(0, its.cap - its.held)
  local wait = 0
  if turns > 0 and not its.oldest then
    wait = settling + turns * (mean + seat_wait) / its.cap -- the first are about to begin
  elseif turns > 0 then
    local length, varies = service.time(its.oldest.lane, its.oldest.family, job.key)
    -- A conversation that has taken longer than most may end at any time, but has not yet.
    local left = (1 - varies) * math.max(length / 4, length - (clock.now - its.since)) + varies * length / its.held
    local each = own > 0 and work / own or mean
    wait = left + (turns - 1) * (each + seat_wait) / its.cap + seat_wait
  end
  return math.max(wait, once(its.blocked, job.lane .. ' ' .. job.family, upstreams.blocked_until, job) - clock.now)
end

local function weight_of(key) return tonumber(redis.call('HGET', keys.key(key), 'weight') or 1) end

-- Weights of the keys that wait in a lane, and of those that only run, by key; their sums; the number
-- of the former that were looked at, and of all. Without the given number of strangers that are in doubt.
local function weights_in(lane, in_doubt)
  local all = redis.call('ZCARD', keys.backlog(lane)) - in_doubt
  local found = {waits = {}, waiting = 0, seen = 0, all = all, runs = {}, running = 0}
  for _, key in ipairs(redis.call('ZREVRANGE', keys.backlog(lane), 0, LOOKED_AT - 1)) do
    if in_doubt == 0 or not is_stranger(key) then
      local weight = weight_of(key)
      found.waits[key], found.waiting, found.seen = weight, found.waiting + weight, found.seen + 1
    end
  end
  for _, key in ipairs(upstreams.running_keys(lane, LOOKED_AT)) do
    if not found.runs[key] and not redis.call('ZSCORE', keys.backlog(lane), key) then
      local weight = weight_of(key)
      found.runs[key], found.running = weight, found.running + weight
    end
  end
  return found
end

-- Weight of the other keys in a lane: all that wait, and half of those that only run.
local function rivals(weights, key)
  local own = weights.waits[key]
  local sum, seen = weights.waiting - (own or 0), weights.seen - (own and 1 or 0)
  if weights.all > weights.seen then sum = seen > 0 and sum * weights.all / seen or weights.all end
  return sum + (weights.running - (weights.runs[key] or 0)) * RUNS
end

-- State of a lane, which all its jobs share: service time, slots, virtual time, weights of its keys.
local function lane_state(lane, limits)
  if states[lane] then return states[lane] end
  local mean, varies = service.time(lane)
  local slots, free = upstreams.lane_slots(lane)
  local at, newest = hash.get(keys.lane(lane), 'now', 'newest')
  newest = tonumber(newest or 1)
  local in_doubt = strangers.in_doubt(lane) and redis.call('ZCARD', keys.strangers(lane)) or 0
  local ahead = in_doubt > 0 and keys.regulars(lane) or keys.queue(lane)
  states[lane] = {
    mean = mean,
    varies = varies,
    slots = slots,
    free = free,
    settling = pulse.settling(limits.gap),
    at = tonumber(at or 1),
    newest = newest,
    ahead = free > 0 and 0 or redis.call('ZCOUNT', ahead, '-inf', exactly(newest)),
    weights = weights_in(lane, in_doubt),
    in_doubt = in_doubt,
    regulars = redis.call('ZCARD', keys.regulars(lane)),
    unanswered = service.unanswered(lane),
  }
  return states[lane]
end

-- Slots of a lane.
function forecast.slots(lane, limits) return lane_state(lane, limits).slots end

local function extent(name)
  local last = redis.call('ZREVRANGE', name, 0, 0, 'WITHSCORES')
  return {number = redis.call('ZCARD', name), highest = tonumber(last[2] or 0)}
end

-- Number of the jobs in a queue up to a tag; if `below`, without those that have it.
local function number_until(name, tag, below)
  local all = once(extents, name, extent, name)
  if tag > all.highest then return all.number end
  return redis.call('ZCOUNT', name, '-inf', (below and '(' or '') .. exactly(tag))
end

-- Number and slot time of the jobs that go before a job with this tag in its lane, `own` of its key; and
-- the part of the time that is certain even if strangers are in doubt and the regulars stop.
local function before_in_lane(now, job, tag, own)
  local function waiting(name) return number_until(name, tag, job.tag) end
  local mean, lane = now.mean, job.lane
  local strange = is_stranger(job.key)
  local first = strange and waiting(keys.strangers(lane)) or 0 -- strangers that go before it
  local between = queue.BETWEEN * (first + own + 1)                -- regulars among them, at most
  if strange and now.in_doubt > 0 then
    if now.weights.all == 0 then between = 0 end
    local short = first * now.unanswered
    return own + first + between, short + between * mean, short + math.min(between, now.regulars) * mean
  end

  -- Until its tag, each other key is served by its weight; and first, all jobs that are in the queue now.
  local queued = waiting(now.in_doubt > 0 and keys.regulars(lane) or keys.queue(lane))
  local shared = rivals(now.weights, job.key) * (tag - now.at)
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
  local lane, key = job.lane, job.key
  local now = lane_state(lane, limits)
  local mean, varies, mine, free, at, newest = now.mean, now.varies, now.slots, now.free, now.at, now.newest
  local begins = (1 + varies) / 2 * mean -- remaining time of a running conversation

  local tag, own, own_work, own_wait, known = job.tag, 0, 0, 0, service.is_known(lane, job.family)
  if not tag then -- the tag it would get if the jobs of its key before it were paid for now
    local all_own, all_work
    all_own, all_work, own, own_work = own_before(job)
    local its = seats_of(job)
    local earliest = job.promised and at or once(its.earliest, lane, fairness.earliest, lane, key)
    tag = (earliest > at and earliest or math.max(at, newest)) + own_work / job.weight
    own_wait = wait_in_line(job, all_own, all_work, now.ahead * mean / mine, now.settling)
    for _, other in ipairs(its.jobs) do
      if other.lane and other.lane ~= lane then
        known = known and service.is_known(other.lane, other.family)
        if other.tag and its.cap == 1 then -- it has the key's only seat
          local _, its_wait = forecast.wait(other, limits)
          own_wait = math.max(own_wait, its_wait + service.time(other.lane, other.family, key))
        end
      end
    end
  end

  local place, before, certain = before_in_lane(now, job, tag, own)
  local paused = pause_of(job)
  local function wait_for(work)
    local wait = 0
    if place + 1 > free then
      -- At least 1 ms: 0 says that a slot is free, however short answers are.
      wait = math.max(1, (work + own_work + begins - free * mean) / mine) + now.settling * math.min(1, free / mine)
    end
    return math.floor(math.max(wait, own_wait, now.settling, paused))
  end
  local doubt = DOUBT * math.max(varies, before / (before + own_work + 1))
  certain = known and wait_for(certain) * (1 - doubt) * service.certain(lane) or 0
  return 1 + math.floor(place + 0.5), wait_for(before), certain
end

-- Place and wait (ms) of a job as it is in Redis; 0 and 0 if it is not waiting.
function forecast.of(id, limits)
  local state, lane, key, family, account, line_tag, weight, promised =
    hash.get(keys.job(id), 'state', 'lane', 'key', 'family', 'account', 'line_tag', 'weight', 'promised')
  if state ~= 'waiting' then return 0, 0 end
  local queued = redis.call('ZSCORE', keys.queue(lane), id)
  local place, wait = forecast.wait({
    id = id,
    lane = lane,
    key = key,
    family = family,
    account = account,
    line_tag = tonumber(line_tag),
    weight = tonumber(weight),
    promised = promised,
    tag = queued and tonumber(queued),
  }, limits)
  local not_before = tonumber(redis.call('ZSCORE', keys.later, 'job ' .. id) or clock.now) - clock.now
  return place, math.max(wait, not_before)
end

return forecast

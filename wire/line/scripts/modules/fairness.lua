-- needs: hash, keys, lanes, queue, service
-- Fair shares: start-time fair queueing (Goyal, Vin, Cheng 1996).
--
-- Each job of a flow gets a tag, the virtual time at which it may start: when the flow's jobs before it
-- are paid for, or now, if that is later. The lowest tag goes first, and the job that starts sets the
-- virtual clock. So flows that always have jobs get slot time in proportion to their weights. A flow that
-- has jobs only now and then finds its share unused and goes before those that queue, but collects no
-- credit while it is idle.
--
-- It is used twice. The keys of a lane pay in ms of slot time: a key has paid for its jobs that ended, and
-- each job that it holds, in the queue or running, counts for the service time that is expected now, so
-- an old guess is worth nothing once better is known. The users of a key pay in jobs, when a job
-- arrives, so that its place among its key's jobs is fixed; the difference from the expected service time
-- is charged when the job ends.
local fairness = {}

local STEP = 0.001     -- flows that begin at the same virtual time go in the order of their arrival

local function virtual_now(clock_name) return tonumber(redis.call('HGET', clock_name, 'now') or 1) end

-- The time `start`, or now if that is later; then after all tags that began now.
local function not_before_now(clock_name, start)
  local at = virtual_now(clock_name)
  if start > at then return start end
  local tag = math.max(at, tonumber(redis.call('HGET', clock_name, 'newest') or 0) + STEP)
  redis.call('HSET', clock_name, 'newest', tag)
  return tag
end

-- Advance the virtual clock of a lane or a key: a job with this tag starts.
local function advance(clock_name, tag)
  if tag <= virtual_now(clock_name) then return false end
  redis.call('HSET', clock_name, 'now', tag)
  return true
end

-- Slot time (ms, by the key's weight) of the jobs of a lane's sort that a key holds, as expected now; the
-- virtual time up to which it has paid for the others; and its weight.
local function charges(lane, key)
  local paid, weight = hash.get(keys.key(key), lane .. ' paid', 'weight')
  local held, sum = redis.call('HGETALL', keys.held(key)), 0
  for i = 1, #held, 2 do
    local its_lane, family = string.match(held[i], '^(%S+) (%S+)$')
    if lanes.sort(its_lane) == lanes.sort(lane) then
      sum = sum + held[i + 1] * service.time(its_lane, family, key)
    end
  end
  weight = tonumber(weight or 1)
  return sum / weight, tonumber(paid or 0), weight
end

-- Earliest start of a key's next job in a lane.
function fairness.earliest(lane, key)
  local held, paid = charges(lane, key)
  return paid + held
end

-- Count the slots of a job that a key holds from now on, or holds no longer (negative).
function fairness.hold(lane, key, family, by)
  local field = lane .. ' ' .. family
  if redis.call('HINCRBY', keys.held(key), field, by) <= 0 then redis.call('HDEL', keys.held(key), field) end
end

-- The tag of a key's next job, which the key holds from now on. `promised`: the job does not wait until
-- the key has paid, but the key's debt remains.
function fairness.next_tag(lane, key, family, slots, promised)
  local held, paid = charges(lane, key)
  local tag = not_before_now(keys.lane(lane), promised and 0 or paid + held)
  if tag > paid + held then redis.call('HSET', keys.key(key), lane .. ' paid', tag - held) end
  fairness.hold(lane, key, family, slots or 1)
  return tag
end

-- The tag of a job that was requeued, which the key holds again: its old place, if that is not in the past.
function fairness.old_tag(lane, key, family, slots, tag)
  fairness.hold(lane, key, family, slots or 1)
  return math.max(tag, virtual_now(keys.lane(lane)))
end

-- A lane's virtual clock: its time, and its advance.
function fairness.now(lane) return virtual_now(keys.lane(lane)) end
function fairness.start(lane, tag) advance(keys.lane(lane), tag) end

-- Lanes of the same sort as a lane, but others, in which a key has jobs.
local function other_lanes(lane, key)
  local found = {}
  local function add(other)
    if other ~= lane and lanes.sort(other) == lanes.sort(lane) then found[other] = true end
  end
  for _, other in ipairs(redis.call('ZRANGE', keys.waits(key), 0, -1)) do add(other) end
  for _, field in ipairs(redis.call('HKEYS', keys.held(key))) do add(string.match(field, '^%S+')) end
  return found
end

-- Charge a key for a job that it held, and that took this time (ms) in each of its slots, in all lanes of this
-- sort in which it has jobs. Slot time that no other key waited for is free.
function fairness.pay(lane, key, family, slots, took, others_wait)
  local record = keys.key(key)
  local paid, weight = hash.get(record, lane .. ' paid', 'weight')
  took = took * slots / tonumber(weight or 1)
  paid = tonumber(paid or 0) + took
  if others_wait then
    for other in pairs(other_lanes(lane, key)) do redis.call('HINCRBYFLOAT', record, other .. ' paid', took) end
  else
    paid = math.min(paid, virtual_now(keys.lane(lane)))
  end
  redis.call('HSET', record, lane .. ' paid', paid)
  fairness.hold(lane, key, family, -slots)
end

-- Tag a key's job in the queue again, once better is known than when it was tagged: only if that is
-- earlier, so that no key loses its place.
function fairness.advance_tag(id, lane, key)
  local family, tag, slots = hash.get(keys.job(id), 'family', 'tag', 'slots')
  local held, paid, weight = charges(lane, key)
  local start = paid + held - (slots or 1) * service.time(lane, family, key) / weight
  if math.max(start, virtual_now(keys.lane(lane))) >= tonumber(tag) then return end
  tag = math.min(tonumber(tag), not_before_now(keys.lane(lane), start))
  redis.call('HSET', keys.job(id), 'tag', tag)
  queue.add(lane, key, id, tag)
end

-- Earliest tag of a user's next job: after the user's last one, even if the jobs before that turned out
-- to cost less than expected.
function fairness.users_earliest(key, user)
  local users = keys.users(key)
  local paid, last = redis.call('ZSCORE', users, user), redis.call('ZSCORE', users, user .. ' last')
  return math.max(tonumber(paid or 0), tonumber(last or 0) + STEP)
end

-- The tag of a user's next job, which costs `price` (jobs).
function fairness.users_next_tag(key, user, price)
  local earliest = fairness.users_earliest(key, user)
  local tag = not_before_now(keys.key(key), earliest)
  redis.call('ZADD', keys.users(key), math.max(earliest, tag) + price, user, tag, user .. ' last')
  return tag
end

-- Advance a key's virtual clock. Users that have paid up to then need not be stored any more.
function fairness.users_start(key, tag)
  if advance(keys.key(key), tag) then redis.call('ZREMRANGEBYSCORE', keys.users(key), '-inf', tag) end
end

-- Charge a user `more` jobs than the price of a job (less, if negative). `paid` is the time up to which
-- the user had paid with that job, used if the user is not stored any more.
function fairness.users_pay(key, user, paid, more)
  local users = keys.users(key)
  local until_ = tonumber(redis.call('ZSCORE', users, user) or paid) + more
  if until_ > virtual_now(keys.key(key)) then
    redis.call('ZADD', users, until_, user)
  else
    redis.call('ZREM', users, user)
  end
end

return fairness

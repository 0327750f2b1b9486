-- Fair shares: start-time fair queueing (Goyal, Vin, Cheng 1996), in units of slot time (ms).
--
-- Each job of a flow is tagged with the virtual moment at which it may start: when the flow's last
-- one is paid for (its tag + its cost / the flow's weight), or now, if that is past. The lowest tag
-- goes first, and what starts sets the virtual clock. So flows that always have jobs get slot time
-- in proportion to their weights, and one that comes only now and then finds its share unused and
-- goes ahead of those that queue, but collects no credit while it is away.
--
-- It is used twice: for the keys of a lane (a job is tagged when it enters the queue) and for the
-- users of a key (when it arrives).

local STEP = 0.001     -- flows that begin at the same virtual moment go in the order they came

-- When a flow's next job may start, at the earliest: when the flow is paid for, but after its last
-- one, even if those before it turned out to cost less than was thought.
local function soonest(flows, flow)
  local paid, last = redis.call('ZSCORE', flows, flow), redis.call('ZSCORE', flows, flow .. ' last')
  return math.max(tonumber(paid or 0), tonumber(last or 0) + STEP)
end

-- The tag of a flow's next job. `clock_key`: hash (now, newest); `flows`: when each is paid for, and
-- under `<flow> last` its newest tag. `promised`: it need not wait until the flow is paid for; what
-- the flow owes, it owes on.
local function next_tag(clock_key, flows, flow, cost, promised)
  local at, newest = fields(clock_key, 'now', 'newest')
  at = tonumber(at or 1)
  local paid = soonest(flows, flow)
  local tag = promised and at or paid
  if tag <= at then
    tag = math.max(at, tonumber(newest or 0) + STEP)
    redis.call('HSET', clock_key, 'newest', tag)
  end
  redis.call('ZADD', flows, math.max(paid, tag) + cost, flow, tag, flow .. ' last')
  return tag
end

-- A job with this tag starts. Flows that are paid for need not be remembered. Returns how far the
-- virtual clock moved.
local function advance(clock_key, flows, tag)
  local at = tonumber(redis.call('HGET', clock_key, 'now') or 1)
  if tag <= at then return 0 end
  redis.call('HSET', clock_key, 'now', tag)
  redis.call('ZREMRANGEBYSCORE', flows, '-inf', tag)
  return tag - at
end

-- A job took `more` slot time than it was charged for (less, if negative). `paid` is when the flow
-- was paid for with this job, should that be forgotten.
local function charge(clock_key, flows, flow, paid, more)
  local at = tonumber(redis.call('HGET', clock_key, 'now') or 1)
  local until_ = tonumber(redis.call('ZSCORE', flows, flow) or paid) + more
  if until_ > at then redis.call('ZADD', flows, until_, flow) else redis.call('ZREM', flows, flow) end
end

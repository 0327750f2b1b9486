-- needs: hash
-- Fair shares: start-time fair queueing (Goyal, Vin, Cheng 1996), in units of slot time (ms).
--
-- Each job of a flow gets a tag, the virtual time at which it may start: when the flow's last job is
-- paid for (its tag + its cost / the flow's weight), or now, if that is later. The lowest tag goes
-- first, and the job that starts sets the virtual clock. So flows that always have jobs get slot time
-- in proportion to their weights. A flow that has jobs only now and then finds its share unused and
-- goes before those that queue, but collects no credit while it is idle.
--
-- It is used twice: among the keys of a lane (a job is tagged when it enters the queue) and among the
-- users of a key (a job is tagged when it arrives).
local fairness = {}

local STEP = 0.001     -- flows that begin at the same virtual time go in the order of their arrival

-- Earliest start of a flow's next job: when the flow is paid for, but after its last job, even if the
-- jobs before that turned out to cost less than expected.
function fairness.earliest(flows, flow)
  local paid, last = redis.call('ZSCORE', flows, flow), redis.call('ZSCORE', flows, flow .. ' last')
  return math.max(tonumber(paid or 0), tonumber(last or 0) + STEP)
end

-- The tag of a flow's next job. `clock_key`: hash (now, newest); `flows`: the time up to which each
-- flow has paid, and under `<flow> last` its newest tag. `promised`: the job does not wait until the
-- flow is paid for, but the flow's debt remains.
function fairness.next_tag(clock_key, flows, flow, cost, promised)
  local at, newest = hash.get(clock_key, 'now', 'newest')
  at = tonumber(at or 1)
  local paid = fairness.earliest(flows, flow)
  local tag = promised and at or paid
  if tag <= at then
    tag = math.max(at, tonumber(newest or 0) + STEP)
    redis.call('HSET', clock_key, 'newest', tag)
  end
  redis.call('ZADD', flows, math.max(paid, tag) + cost, flow, tag, flow .. ' last')
  return tag
end

-- Advance the virtual clock: a job with this tag starts. Flows that are paid for need not be stored
-- any more. Returns how far the clock moved.
function fairness.advance(clock_key, flows, tag)
  local at = tonumber(redis.call('HGET', clock_key, 'now') or 1)
  if tag <= at then return 0 end
  redis.call('HSET', clock_key, 'now', tag)
  redis.call('ZREMRANGEBYSCORE', flows, '-inf', tag)
  return tag - at
end

-- Charge a flow `more` slot time than its job was tagged with (less, if negative). `paid` is the time
-- up to which the flow had paid with this job, used if the flow is not stored any more.
function fairness.charge(clock_key, flows, flow, paid, more)
  local at = tonumber(redis.call('HGET', clock_key, 'now') or 1)
  local until_ = tonumber(redis.call('ZSCORE', flows, flow) or paid) + more
  if until_ > at then redis.call('ZADD', flows, until_, flow) else redis.call('ZREM', flows, flow) end
end

return fairness

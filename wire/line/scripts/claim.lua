-- needs: breaker, clock, durations, fairness, hash, jobs, keys, line, metrics, pulse, queue, vocabulary
-- Claim up to `want` jobs for a worker, each with a lease. Of the waiting lanes, the one that holds least
-- of its reserve goes first; slots that one lane does not use are open to the other.
-- ARGV: worker, maximum number of jobs to claim, slots of the upstream, lease, gap (ms), reserves, arq's
-- record of a job or ''. Returns a list of {lane, id, attempt, account, family, readers, body}.
local worker, want, max_concurrency, lease, gap = unpack(ARGV, 1, 5)
local reserves, record = cmsgpack.unpack(ARGV[6]), ARGV[7]

if pulse.undisturbed(tonumber(gap)) < tonumber(gap) then return {} end
jobs.resume_due()

local free = tonumber(max_concurrency)
local held = {}
for _, lane in ipairs(vocabulary.lanes) do
  held[lane] = redis.call('ZCARD', keys.leases(lane))
  free = free - held[lane]
end
free = math.min(free, tonumber(want))
local open = breaker.open_for()
if open then free = (open > 0 or breaker.probe()) and 0 or math.min(free, 1) end

-- Of lanes that hold the same part of their reserves, the one goes first that has had less slot time while
-- the other waited: so even a single slot is shared.
local function next_lane()
  local best, lowest, least
  for _, lane in ipairs(vocabulary.lanes) do
    if not queue.is_empty(lane) then
      local share = held[lane] / reserves[lane]
      local had = tonumber(redis.call('HGET', keys.lane(lane), 'had') or 0) / reserves[lane]
      if not best or share < lowest or (share == lowest and had < least) then
        best, lowest, least = lane, share, had
      end
    end
  end
  return best
end

local claimed = {}
while #claimed < free do
  local lane = next_lane()
  if not lane then break end
  local id, tag = queue.pop(lane)
  local state, account, family, readers, body, arrived, predicted, attempts =
    hash.get(keys.job(id), 'state', 'account', 'family', 'readers', 'body', 'arrived', 'predicted', 'attempt')
  if state ~= 'waiting' then
    -- Its record was evicted, for example. Its seat is released when it is needed, or by the reconciler.
    redis.call('ZREM', keys.waiting(lane), id)
    metrics.count('gateway_repairs_total', {what = 'record_lost'})
  elseif not jobs.has_reader(readers) and not jobs.orphan(id) then
    -- Its front end died, and its client with it. A front end that was only frozen finds the job
    -- missing and enqueues it again.
    jobs.finish(id, 'cancelled', 'front_end_lost')
    metrics.count('gateway_repairs_total', {what = 'front_end_lost'})
    redis.call('DEL', keys.job(id))
  else
    fairness.start(lane, tag)
    line.count_out(id, lane, account)
    redis.call('SREM', keys.queued(account), id)
    redis.call('ZADD', keys.running(account), clock.now, id)
    redis.call('ZADD', keys.leases(lane), clock.now + lease, id)
    -- Never the same number twice, even if Redis lost the last claim in a crash.
    local attempt = math.max(clock.now, tonumber(attempts) + 1)
    redis.call('HSET', keys.job(id), 'state', 'running', 'attempt', attempt, 'worker', worker,
      'claimed', clock.now)
    if record ~= '' then redis.call('SET', keys.arq_job(id), record, 'PX', durations.MINUTE) end
    if open then breaker.set_probe(id) end
    line.fill_seats(account) -- the account's next job takes its place in the queue
    held[lane] = held[lane] + 1
    claimed[#claimed + 1] = {lane, id, attempt, account, family, readers, body}

    metrics.count('gateway_attempts_total', {lane = lane})
    if attempts == '0' then
      local waited = (clock.now - tonumber(arrived)) / 1000
      metrics.observe('gateway_wait_seconds', {lane = lane}, waited)
      metrics.observe_forecast({lane = lane}, tonumber(predicted) / 1000, waited)
    end
  end
end
return claimed

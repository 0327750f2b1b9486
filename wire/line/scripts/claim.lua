-- needs: accounts, breaker, clock, durations, fairness, hash, jobs, keys, line, metrics, pulse, queue, vocabulary
-- Claim up to `want` jobs for a worker, each with a lease. Of the sorts that wait, the one that holds least
-- of its reserve goes first; slots that one does not use are open to the others.
-- ARGV: worker, upstream, maximum number of jobs to claim, slots of the upstream, lease, gap (ms), reserves,
-- arq's record of a job or ''.
-- Returns a list of {upstream, account, lane, id, attempt, key, family, readers, body}.
local worker, upstream, want, max_concurrency, lease, gap = unpack(ARGV, 1, 6)
local reserves, record = cmsgpack.unpack(ARGV[7]), ARGV[8]

if pulse.undisturbed(tonumber(gap)) < tonumber(gap) then return {} end
jobs.resume_due()

local free = tonumber(max_concurrency)
local held = {}
for _, sort in ipairs(vocabulary.sorts) do
  held[sort] = redis.call('ZCARD', keys.leases(upstream, sort))
  free = free - held[sort]
end
free = math.min(free, tonumber(want))
local open = breaker.open_for()
if open then free = (open > 0 or breaker.probe()) and 0 or math.min(free, 1) end

-- Of sorts that hold the same part of their reserves, the one goes first that has had less slot time while
-- another waited: so even a single slot is shared.
local function next_sort()
  local best, lowest, least
  for _, sort in ipairs(vocabulary.sorts) do
    local reserve = reserves[sort]
    if reserve and not queue.is_empty(sort) then
      local share = held[sort] / reserve
      local had = tonumber(redis.call('HGET', keys.turns(upstream), 'had ' .. sort) or 0) / reserve
      if not best or share < lowest or (share == lowest and had < least) then
        best, lowest, least = sort, share, had
      end
    end
  end
  return best
end

local claimed = {}
while #claimed < free do
  local sort = next_sort()
  if not sort then break end
  local lane = sort
  local id, tag = queue.pop(lane)
  local state, key, family, readers, body, arrived, predicted, attempts =
    hash.get(keys.job(id), 'state', 'key', 'family', 'readers', 'body', 'arrived', 'predicted', 'attempt')
  if state ~= 'waiting' then
    -- Its record was evicted, for example. Its seat is released when it is needed, or by the reconciler.
    redis.call('ZREM', keys.waiting(sort), id)
    metrics.count('gateway_repairs_total', {what = 'record_lost'})
  elseif not jobs.has_reader(readers) and not jobs.orphan(id) then
    -- Its front end died, and its client with it. A front end that was only frozen finds the job
    -- missing and enqueues it again.
    jobs.finish(id, 'cancelled', 'front_end_lost')
    metrics.count('gateway_repairs_total', {what = 'front_end_lost'})
    redis.call('DEL', keys.job(id))
  else
    fairness.start(lane, tag)
    line.count_out(id, lane, key)
    local account = key
    redis.call('SREM', keys.queued(key), id)
    redis.call('ZADD', keys.running(key), clock.now, id)
    redis.call('ZADD', keys.leases(upstream, sort), clock.now + lease, id)
    accounts.hold(account, id)
    -- Never the same number twice, even if Redis lost the last claim in a crash.
    local attempt = math.max(clock.now, tonumber(attempts) + 1)
    redis.call('HSET', keys.job(id), 'state', 'running', 'attempt', attempt, 'worker', worker,
      'claimed', clock.now, 'upstream', upstream, 'account', account)
    if record ~= '' then redis.call('SET', keys.arq_job(id), record, 'PX', durations.MINUTE) end
    if open then breaker.set_probe(id) end
    line.fill_seats(key) -- the key's next job takes its place in the queue
    held[sort] = held[sort] + 1
    claimed[#claimed + 1] = {upstream, account, lane, id, attempt, key, family, readers, body}

    metrics.count('gateway_attempts_total', {lane = sort})
    if attempts == '0' then
      local waited = (clock.now - tonumber(arrived)) / 1000
      metrics.observe('gateway_wait_seconds', {lane = sort}, waited)
      metrics.observe_forecast({lane = sort}, tonumber(predicted) / 1000, waited)
    end
  end
end
return claimed

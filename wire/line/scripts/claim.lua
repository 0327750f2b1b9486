-- needs: breaker, clock, durations, fairness, hash, jobs, keys, leases, line, metrics, openings, precedence, pulse, queue, upstreams
-- Claim jobs for a worker, each with a lease of a slot of an upstream and of an account there. The
-- upstream that holds the smallest part of its slots goes first; there, the sort and the lane that come first
-- (see `precedence`).
-- ARGV: worker, lease, gap (ms), arq's record of a job or '', then each upstream and the maximum number of jobs
-- to claim there.
-- Returns a list of {upstream, account, lane, id, attempt, key, family, readers, body}.
local worker, lease, gap, record = unpack(ARGV, 1, 4)

if pulse.undisturbed(tonumber(gap)) < tonumber(gap) then return {} end
jobs.resume_due()

local LEFT = 8 -- jobs of a lane that are left to another upstream, at most: those behind them are, too

-- Remove the job of a lane from its queue whose turn it is: the job, with its tag and `passed` as `queue.pop` says;
-- nil if none may run at this upstream.
local function pop(upstream, sort, lane)
  local aside, found = {}, nil
  while not found and #aside < LEFT do
    local id, at, passed = queue.pop(lane)
    if not id then break end
    local job = hash.some(keys.job(id), 'state', 'key', 'family', 'readers', 'body', 'arrived', 'predicted',
      'attempt', 'avoid', 'tag', 'slots')
    job.id, job.at, job.passed = id, at, passed
    if job.state ~= 'waiting' then
      -- Its record was evicted, for example. Its seat is released when it is needed, or by the reconciler.
      redis.call('ZREM', keys.waiting(sort), id)
      metrics.count('gateway_repairs_total', {what = 'record_lost'})
    elseif not jobs.has_reader(job.readers) and not jobs.orphan(id) then
      -- Its front end died, and its client with it. A front end that was only frozen finds the job
      -- missing and enqueues it again.
      jobs.finish(id, 'cancelled', 'front_end_lost')
      metrics.count('gateway_repairs_total', {what = 'front_end_lost'})
      redis.call('DEL', keys.job(id))
    elseif job.avoid == upstream and upstreams.has_another(lane, upstream) then
      aside[#aside + 1] = job -- it failed here
    else
      found = job
    end
  end
  for _, job in ipairs(aside) do queue.add(lane, job.key, job.id, job.tag) end
  return found
end

-- Start a job: it holds a slot from now on, and its key's next job takes its place in the queue.
local function start(opening, sort, lane, account, leased, job)
  local id, key, upstream = job.id, job.key, opening.upstream
  account = account or key
  precedence.start(upstream, sort, lane, job.at)
  fairness.start(lane, job.at)
  queue.start(lane, job.passed)
  line.count_out(id, lane, key)
  redis.call('SREM', keys.queued(key), id)
  redis.call('ZADD', keys.running(key), clock.now, id)
  leases.hold(id, {upstream = upstream, lane = lane, account = account, leased = leased}, clock.now + lease)
  -- Never the same number twice, even if Redis lost the last claim in a crash.
  local attempt = math.max(clock.now, tonumber(job.attempt) + 1)
  redis.call('HSET', keys.job(id), 'state', 'running', 'attempt', attempt, 'worker', worker,
    'claimed', clock.now, 'upstream', upstream, 'account', account)
  if leased > 1 then redis.call('HSET', keys.job(id), 'leased', leased) end
  if record ~= '' then redis.call('SET', keys.arq_job(id), record, 'PX', durations.MINUTE) end
  if opening.probes then breaker.set_probe(upstream, id) end
  line.fill_seats(key)

  metrics.count('gateway_attempts_total', {lane = sort})
  if job.attempt == '0' then
    local waited = (clock.now - tonumber(job.arrived)) / 1000
    metrics.observe('gateway_wait_seconds', {lane = sort}, waited)
    metrics.observe_forecast({lane = sort}, tonumber(job.predicted) / 1000, waited)
  end
  return {upstream, account, lane, id, attempt, key, job.family, job.readers, job.body}
end

local claimed, all = {}, openings.at({unpack(ARGV, 5)})
while true do
  local opening, sort, lane, account = openings.next(all)
  if not opening then break end
  local job = pop(opening.upstream, sort, lane)
  if job then
    local leased, name = openings.take(opening, sort, lane, account, tonumber(job.slots or 1))
    if leased then
      claimed[#claimed + 1] = start(opening, sort, lane, name, leased, job)
    else
      queue.add(lane, job.key, job.id, job.tag) -- until as many slots are free as it needs
    end
  else
    openings.skip(opening, sort, lane)
  end
end
return claimed

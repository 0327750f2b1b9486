-- needs: clock, hash, jobs, keys, leases, metrics, pulse, upstreams, vocabulary
-- Leases that expired: their workers died, or lost their connection to Redis. Jobs of which nothing was
-- published are requeued in their old place; the caller must publish the ending of the others.
-- ARGV: lease, gap (ms), number of crashed workers after which a job is not tried again.
-- Returns {number of requeued jobs, {{id, attempt, readers, 'revoked', 'operator' or 1 if it was cancelled, else ''}, ...}}.
local lease, gap, max_crashes = unpack(ARGV)

local calm = pulse.undisturbed(tonumber(gap))
jobs.resume_due()
if calm < tonumber(lease) then return {0, {}} end
local requeued, stalled = 0, {}

local function reap(held)
  -- No lease is longer than this: the clock was set back.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', held, clock.now + 2 * lease, '+inf')) do
    redis.call('ZADD', held, clock.now + lease, id)
  end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', clock.now, 'LIMIT', 0, 100)) do
    local id = leases.job(name)
    local state, attempt, published, cancel, readers =
      hash.get(keys.job(id), 'state', 'attempt', 'published', 'cancel', 'readers')
    if state ~= 'running' then
      -- Its record was evicted, unless it has been requeued just now.
      if redis.call('ZREM', held, name) == 1 then metrics.count('gateway_repairs_total', {what = 'record_lost'}) end
    elseif name == id then -- its other leases end with the first
      metrics.count('gateway_repairs_total', {what = 'lease_ended'})
      local crashes = published and 0 or redis.call('HINCRBY', keys.job(id), 'crashes', 1)
      if published or cancel or crashes >= tonumber(max_crashes) then
        -- The reader had enough, but the log may lack part of that: the answer is not kept.
        redis.call('HDEL', keys.job(id), 'enough')
        stalled[#stalled + 1] = {id, attempt, readers, cancel or ''}
      else
        jobs.requeue(id, 'worker_lost')
        requeued = requeued + 1
      end
    end
  end
end

for _, upstream in ipairs(upstreams.all()) do
  local running = 0
  for _, sort in ipairs(vocabulary.sorts) do
    reap(keys.leases(upstream, sort))
    running = running + redis.call('ZCARD', keys.leases(upstream, sort))
  end
  if running == 0 then upstreams.forget(upstream) end
end
return {requeued, stalled}

-- Leases that ended without renewal: their workers died, or lost us. Jobs of which nothing was
-- published go back to their old place; of the others the caller must publish the ending.
-- ARGV: lease, gap (ms), how many crashes end a job.
-- Returns {number put back, {{id, attempt, readers, 1 if it was cancelled}, ...}}.
local lease, gap, max_crashes = unpack(ARGV)

local calm = undisturbed(tonumber(gap))
wake_up()
if calm < tonumber(lease) then return {0, {}} end
local back, ended = 0, {}
for _, lane in ipairs(LANES) do
  -- No lease is as long as that: the clock was set back.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases_key(lane), now + 2 * lease, '+inf')) do
    redis.call('ZADD', leases_key(lane), now + lease, id)
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases_key(lane), '-inf', now, 'LIMIT', 0, 100)) do
    local state, attempt, published, cancel, readers =
      fields(job_key(id), 'state', 'attempt', 'published', 'cancel', 'readers')
    if state ~= 'running' then
      redis.call('ZREM', leases_key(lane), id) -- its record was evicted
      count('gateway_repairs_total', {what = 'record_lost'})
    else
      count('gateway_repairs_total', {what = 'lease_ended'})
      local crashes = published and 0 or redis.call('HINCRBY', job_key(id), 'crashes', 1)
      if published or cancel or crashes >= tonumber(max_crashes) then
        redis.call('HDEL', job_key(id), 'enough') -- its log may lack what was enough: it is not kept
        ended[#ended + 1] = {id, attempt, readers, cancel and 1 or 0}
      else
        put_back(id, 'worker_lost')
        back = back + 1
      end
    end
  end
end
return {back, ended}

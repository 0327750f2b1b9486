-- Leases that ended without renewal: their workers died, or lost us. Jobs of which nothing was
-- published go back to their old place; of the others the caller must publish the ending.
-- Returns {number put back, {{id, attempt, fronts, 1 if it was cancelled}, ...}}.
local lease, gap, max_crashes = unpack(ARGV)

if undisturbed(tonumber(gap)) < tonumber(lease) then return {0, {}} end
local back, ended = 0, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 100)) do
  local state, attempt, account, queue, score, published, cancel, fronts =
    unpack(redis.call('HMGET', job_key(id), 'state', 'attempt', 'account', 'queue', 'score',
      'published', 'cancel', 'front'), 1, 8)
  if state ~= 'running' then
    redis.call('ZREM', LEASES, id) -- its record was evicted
  else
    local crashes = published and 0 or redis.call('HINCRBY', job_key(id), 'crashes', 1)
    if published or cancel or crashes >= tonumber(max_crashes) then
      ended[#ended + 1] = {id, attempt, fronts, cancel and 1 or 0}
    else
      put_back(id, account, queue, score)
      back = back + 1
    end
  end
end
return {back, ended}

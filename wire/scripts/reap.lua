-- Leases that ended without renewal: their workers died, or lost us. Jobs of which nothing was
-- published go back to their old place; of the others the caller must publish the ending.
-- Returns {number put back, {{id, attempt, front, cancelled}, ...}}.
local lease, gap, max_crashes = unpack(ARGV)

if undisturbed(tonumber(gap)) < tonumber(lease) then return {0, {}} end
local back, ended = 0, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 100)) do
  local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'account', 'queue', 'score',
    'published', 'cancel', 'front')
  if job[1] ~= 'running' then
    redis.call('ZREM', LEASES, id)
  elseif job[6] or job[7] or redis.call('HINCRBY', job_key(id), 'crashes', 1) >= tonumber(max_crashes) then
    ended[#ended + 1] = {id, job[2], job[8], job[7] and 1 or 0}
  else
    put_back(id, job[3], job[4], job[5])
    back = back + 1
  end
end
return {back, ended}

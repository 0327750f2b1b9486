-- needs: breaker, clock, hash, jobs, keys
-- The upstream failed before it answered: the job is tried again later, if it may, with a pause that
-- doubles each time, and at another upstream, if one takes such jobs. ARGV: id, attempt, first and longest
-- pause (ms), maximum number of retries, 1 if the request itself may be at fault. Returns as `requeue.lua`,
-- or 'exhausted' if no retries are left or its deadline is too near.
local id, attempt, wait, longest, limit, doubtful = unpack(ARGV)

local obstacle = jobs.obstacle(id, attempt)
if obstacle then return obstacle end
local deadline, retries, upstream = hash.get(keys.job(id), 'deadline', 'retries', 'upstream')
retries = tonumber(retries or 0)
wait = math.min(tonumber(wait) * 2 ^ retries, tonumber(longest))
if retries >= tonumber(limit) or clock.now + wait >= tonumber(deadline) then return 'exhausted' end
breaker.count_failure(upstream, id, doubtful == '1')
redis.call('HSET', keys.job(id), 'avoid', upstream)
redis.call('HINCRBY', keys.job(id), 'retries', 1)
jobs.requeue(id, 'upstream_failed', math.floor(clock.now + wait))
return 'requeued'

-- The upstream failed before it answered: the job tries again after a while, if it may, twice as long
-- each time. ARGV: id, attempt, how long the first time and at most (ms), how often at most, how many
-- failures open the circuit. Returns as `requeue.lua`, or 'exhausted' when it has tried often enough, or its
-- time is up.
local id, attempt, wait, longest, most, failures = unpack(ARGV)

local no = obstacle(id, attempt)
if no then return no end
local deadline, retries = fields(job_key(id), 'deadline', 'retries')
retries = tonumber(retries or 0)
wait = math.min(tonumber(wait) * 2 ^ retries, tonumber(longest))
if retries >= tonumber(most) or now + wait >= tonumber(deadline) then return 'exhausted' end
upstream_failed(id, tonumber(failures))
redis.call('HINCRBY', job_key(id), 'retries', 1)
put_back(id, 'upstream_failed', math.floor(now + wait))
return 'requeued'

-- The upstream failed before it answered: the job tries again after a while, if it may, twice as long
-- each time. ARGV: id, attempt, how long the first time and at most (ms), how often at most, how many
-- failures open the circuit. Returns 1; 0 when this attempt is not the current one;
-- -1 when it has tried often enough, its time is up, or it was cancelled meanwhile.
local id, attempt, wait, longest, most, failures = unpack(ARGV)

local state, current, deadline, retries, published, cancel =
  fields(job_key(id), 'state', 'attempt', 'deadline', 'retries', 'published', 'cancel')
if state ~= 'running' or current ~= attempt or published then return 0 end
wait = math.min(tonumber(wait) * 2 ^ tonumber(retries or 0), tonumber(longest))
if cancel or tonumber(retries or 0) >= tonumber(most) or now + wait >= tonumber(deadline) then
  return -1
end
upstream_failed(id, tonumber(failures))
redis.call('HINCRBY', job_key(id), 'retries', 1)
put_back(id, 'upstream_failed', math.floor(now + wait))
return 1

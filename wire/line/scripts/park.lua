-- needs: accounts, breaker, clock, hash, jobs, keys, lanes, line
-- An account may not use this family of models for some time: the job is requeued in its old place,
-- and all jobs of the family wait, or run on other accounts. ARGV: id, attempt, time (ms). Returns as `requeue.lua`.
local id, attempt, wait = unpack(ARGV)

local key, account, upstream, family, lane =
  hash.get(keys.job(id), 'key', 'account', 'upstream', 'family', 'lane')
local obstacle = jobs.obstacle(id, attempt)
if obstacle ~= 'not_current' then breaker.close(upstream) end
if obstacle then return obstacle end

local until_ = clock.now + tonumber(wait)
if account == key then
  accounts.park(account, family, until_)
  line.unseat(key, family)
else
  accounts.park(account, lanes.model(lane), until_)
end
jobs.requeue(id, 'model_capped')
return 'requeued'

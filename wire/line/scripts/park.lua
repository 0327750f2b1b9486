-- needs: accounts, breaker, clock, hash, jobs, keys, line
-- An account may not use this family of models for some time: the job is requeued in its old place,
-- and all jobs of the family wait. ARGV: id, attempt, time (ms). Returns as `requeue.lua`.
local id, attempt, wait = unpack(ARGV)

local obstacle = jobs.obstacle(id, attempt)
if obstacle ~= 'not_current' then breaker.close() end
if obstacle then return obstacle end
local key, account, family = hash.get(keys.job(id), 'key', 'account', 'family')
accounts.park(account, family, clock.now + tonumber(wait))
if account == key then line.unseat(key, family) end
jobs.requeue(id, 'model_capped')
return 'requeued'

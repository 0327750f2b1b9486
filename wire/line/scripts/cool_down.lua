-- needs: accounts, breaker, clock, hash, jobs, keys, line
-- The upstream is busy with an account although we expected it to have a free slot: the job is requeued in its
-- old place. The account's cap is halved if it is above 1. Unless it still runs more jobs than the new cap
-- allows, it also cools down, twice as long each time until an answer begins; in any case if the upstream said for
-- which time. ARGV: id, attempt, shortest and longest cool-down, that time or 0 (ms). Returns as `requeue.lua`.
local id, attempt, shortest, longest, pause = unpack(ARGV)

local key, account, upstream = hash.get(keys.job(id), 'key', 'account', 'upstream')
local obstacle = jobs.obstacle(id, attempt)
if obstacle ~= 'not_current' then breaker.close(upstream) end
if obstacle then return obstacle end

accounts.shrink(account)
if pause == '0' then
  accounts.rest(account, tonumber(shortest), tonumber(longest))
else
  accounts.cool_down(account, clock.now + pause)
end
if account == key then line.unseat(key) end
jobs.requeue(id, 'account_busy')
return 'requeued'

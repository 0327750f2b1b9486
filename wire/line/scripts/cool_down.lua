-- needs: breaker, caps, clock, jobs, keys, line
-- The upstream is busy with this account although we expected it to be free: the job is requeued in its
-- old place. The account's cap is halved if it is above 1. Unless it still runs more jobs than the new cap
-- allows, it also cools down, twice as long each time until an answer begins. ARGV: id, attempt, shortest
-- and longest cool-down (ms). Returns as `requeue.lua`.
local id, attempt, shortest, longest = unpack(ARGV)

local obstacle = jobs.obstacle(id, attempt)
if obstacle ~= 'not_current' then breaker.close() end
if obstacle then return obstacle end

local account = redis.call('HGET', keys.job(id), 'account')
local cap = caps.of(account)
if cap > 1 then
  redis.call('HSET', keys.account(account), 'learned', math.max(1, cap / 2))
  redis.call('SADD', keys.limited, account)
end
if redis.call('ZCARD', keys.running(account)) <= caps.of(account) then
  -- Otherwise the upstream would be asked at once, and would refuse again.
  local last = tonumber(redis.call('HGET', keys.account(account), 'rest') or 0)
  local pause = math.min(math.max(last * 2, tonumber(shortest)), tonumber(longest))
  redis.call('HSET', keys.account(account), 'rest', pause)
  line.block_account(account, clock.now + pause)
end
line.unseat(account)
jobs.requeue(id, 'account_busy')
return 'requeued'

-- needs: accounts, breaker, clock, hash, jobs, keys
-- An account that keys share failed by itself, since its token was refused for example: it is set aside, and the job is
-- requeued in its old place, for another one. If the token is not the one that workers described last, the account only
-- cools down, until they describe it again. ARGV: id, attempt, the reason, the name of the token, time (ms), 0 if the
-- upstream named none. Returns as `requeue.lua`.
local id, attempt, reason, token, pause = unpack(ARGV)
local SOON = 1000 -- ms

local account, upstream = hash.get(keys.job(id), 'account', 'upstream')
local obstacle = jobs.obstacle(id, attempt)
if obstacle ~= 'not_current' then
  breaker.close(upstream)
  if (redis.call('HGET', keys.account(account), 'token') or token) == token then
    accounts.set_aside(account, reason, tonumber(pause))
  else
    accounts.cool_down(account, clock.now + SOON)
  end
end
if obstacle then return obstacle end

jobs.requeue(id, 'account_refused')
return 'requeued'

-- needs: accounts, breaker, hash, jobs, keys
-- An account that keys share failed by itself, since its token was refused for example: it is set aside, unless it has
-- another token by now, and the job is requeued in its old place, for another one. ARGV: id, attempt, the reason, the
-- name of the token, time (ms), 0 if the upstream named none. Returns as `requeue.lua`.
local id, attempt, reason, token, pause = unpack(ARGV)

local account, upstream = hash.get(keys.job(id), 'account', 'upstream')
local obstacle = jobs.obstacle(id, attempt)
if obstacle ~= 'not_current' then
  breaker.close(upstream)
  if redis.call('HGET', keys.account(account), 'token') == token then
    accounts.set_aside(account, reason, tonumber(pause))
  end
end
if obstacle then return obstacle end

jobs.requeue(id, 'account_refused')
return 'requeued'

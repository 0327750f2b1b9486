-- The account may not use this family of models for a while (ms): the job goes back to its old place
-- and all of them wait for that. ARGV: id, attempt, how long. Returns as `requeue.lua`.
local id, attempt, wait = unpack(ARGV)

local no = obstacle(id, attempt)
if no ~= 'not_current' then upstream_answered() end
if no then return no end
local account, family = fields(job_key(id), 'account', 'family')
redis.call('ZADD', LATER, now + tonumber(wait), 'family ' .. account .. ' ' .. family)
call_back(account, family)
put_back(id, 'model_capped')
return 'requeued'

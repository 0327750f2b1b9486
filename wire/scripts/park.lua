-- The account may not use this family of models for a while (ms): the job goes back to its old place
-- and all of them wait for that. ARGV: id, attempt, how long. Returns 1, 0, or -1
-- as `return.lua`.
local id, attempt, wait = unpack(ARGV)

local state, current, account, family, published, cancel =
  fields(job_key(id), 'state', 'attempt', 'account', 'family', 'published', 'cancel')
if state ~= 'running' or current ~= attempt or published then return 0 end
upstream_answered()
if cancel then return -1 end
redis.call('ZADD', LATER, now + tonumber(wait), 'family ' .. account .. ' ' .. family)
call_back(account, family)
put_back(id, 'model_capped')
return 1

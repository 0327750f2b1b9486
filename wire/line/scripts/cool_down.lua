-- The upstream is busy with this account although we thought it free: the job goes back to its old
-- place. If the account holds others of ours, it may hold fewer from now on, half as many; else it
-- rests, twice as long each time until an answer begins. ARGV: id, attempt, shortest and longest
-- rest (ms). Returns as `requeue.lua`.
local id, attempt, shortest, longest = unpack(ARGV)

local no = obstacle(id, attempt)
if no ~= 'not_current' then upstream_answered() end
if no then return no end

local account = redis.call('HGET', job_key(id), 'account')
local cap = capacity(account)
if cap > 1 then
  redis.call('HSET', account_key(account), 'learned', math.max(1, cap / 2))
  redis.call('SADD', LIMITED, account)
end
if redis.call('ZCARD', running_key(account)) <= capacity(account) then
  -- It would be asked again at once, and refused again.
  local last = tonumber(redis.call('HGET', account_key(account), 'rest') or 0)
  local rest = math.min(math.max(last * 2, tonumber(shortest)), tonumber(longest))
  redis.call('HSET', account_key(account), 'rest', rest)
  redis.call('ZADD', LATER, now + rest, 'account ' .. account)
end
call_back(account)
put_back(id, 'account_busy')
return 'requeued'

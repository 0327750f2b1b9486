-- The upstream is busy with this account although we thought it free: the job goes back to its old
-- place and the account rests, twice as long each time until an answer begins. Returns 1 or 0.
local id, attempt, shortest, longest = unpack(ARGV)

local state, current, account, queue, score, published = unpack(redis.call('HMGET', job_key(id),
  'state', 'attempt', 'account', 'queue', 'score', 'published'), 1, 6)
if state ~= 'running' or current ~= attempt or published then return 0 end

local last = tonumber(redis.call('HGET', account_key(account), 'rest') or 0)
local rest = math.min(math.max(last * 2, tonumber(shortest)), tonumber(longest))
redis.call('HSET', account_key(account), 'rest', rest)
redis.call('ZADD', RESTING, now + rest, account)

-- The account's other jobs that stand in the queue would meet the same refusal.
for _, other in ipairs(redis.call('SMEMBERS', seats_key(account))) do
  local its_queue = redis.call('HGET', job_key(other), 'queue')
  local its_score = its_queue and redis.call('ZSCORE', its_queue, other)
  if its_score then
    redis.call('ZREM', its_queue, other)
    redis.call('SREM', seats_key(account), other)
    redis.call('ZADD', line_key(account), its_score, other)
  end
end
put_back(id, account, queue, score)
return 1

-- Claim up to `want` jobs for a worker, and the leases to run them.
-- Returns a list of {id, attempt, score, account, fronts, body}.
local queue, worker, want, max_concurrency, lease, gap, settle = unpack(ARGV)

local calm = undisturbed(tonumber(gap))
if calm < tonumber(settle) then return {} end

local rested = redis.call('ZRANGEBYSCORE', RESTING, '-inf', now, 'LIMIT', 0, 100)
for _, account in ipairs(rested) do
  redis.call('ZREM', RESTING, account)
  fill_seats(account)
end

local claimed = {}
local free = math.min(tonumber(want), tonumber(max_concurrency) - redis.call('ZCARD', LEASES))
while #claimed < free do
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  if #head == 0 then break end
  local id, score = head[1], head[2]
  local account, fronts, body = unpack(redis.call('HMGET', job_key(id), 'account', 'front', 'body'), 1, 3)
  if not account then
    redis.call('ZREM', queue, id) -- its record was evicted; its seat is freed when it is needed
  elseif not is_awaited(fronts) then
    -- Its front ends died, and its clients with them. Should one only have been frozen, it finds
    -- the job forgotten and puts it in line again.
    close_job(id, account, queue, 'cancelled')
    redis.call('DEL', job_key(id))
  else
    redis.call('ZREM', queue, id)
    local attempt = redis.call('HINCRBY', job_key(id), 'attempt', 1)
    redis.call('HSET', job_key(id), 'state', 'running', 'worker', worker)
    redis.call('ZADD', LEASES, now + lease, id)
    claimed[#claimed + 1] = {id, attempt, score, account, fronts, body}
  end
end
return claimed

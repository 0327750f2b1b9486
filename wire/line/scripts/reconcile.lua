-- Compare what the keys say of some accounts, and of the line as a whole, with the jobs' records, and
-- put right what differs: after a Redis that lost its last second, or an evicted key, they may.
-- ARGV: how long the finding is shown (ms), then accounts. Returns how many repairs were made.
local shown = tonumber(ARGV[1])
local repaired = 0
local function repair(what)
  repaired = repaired + 1
  count('gateway_repairs_total', {what = what})
end

-- A job has its seat again, which may have been given away.
local function seat_found(account)
  call_back(account)
  fill_seats(account)
  repair('seat_lost')
end

-- Leases: of running jobs, and of all of them, each on its account's seat.
for _, lane in ipairs(LANES) do
  for _, id in ipairs(redis.call('ZRANGE', leases_key(lane), 0, -1)) do
    local state, its_lane, account, claimed = fields(job_key(id), 'state', 'lane', 'account', 'claimed')
    if state ~= 'running' or its_lane ~= lane then
      redis.call('ZREM', leases_key(lane), id)
      repair('lease_of_nobody')
    elseif redis.call('ZADD', running_key(account), 'NX', claimed, id) == 1 then
      seat_found(account)
    end
  end
end

for i = 2, #ARGV do
  local account = ARGV[i]
  for _, id in ipairs(redis.call('ZRANGE', running_key(account), 0, -1)) do
    local state, lane = fields(job_key(id), 'state', 'lane')
    if state ~= 'running' then
      redis.call('ZREM', running_key(account), id)
      repair('seat_of_nobody')
    elseif not redis.call('ZSCORE', leases_key(lane), id) then
      redis.call('ZADD', leases_key(lane), now, id) -- it is found to have ended, unless it is renewed
      repair('lease_lost')
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', queued_key(account))) do
    local state, lane = fields(job_key(id), 'state', 'lane')
    if state ~= 'waiting' or not redis.call('ZSCORE', queue_key(lane), id) then
      redis.call('SREM', queued_key(account), id)
      repair('seat_of_nobody')
    end
  end
  fill_seats(account)
end

-- Waiting jobs: counted if they wait, and in one place.
for _, lane in ipairs(LANES) do
  local cursor = redis.call('HGET', lane_key(lane), 'checked') or '0'
  local step = redis.call('ZSCAN', waiting_key(lane), cursor, 'COUNT', 200)
  for n = 1, #step[2], 2 do
    local id = step[2][n]
    local state, account, family, line_tag, cost =
      fields(job_key(id), 'state', 'account', 'family', 'line_tag', 'cost')
    if state ~= 'waiting' then
      if account then count_out(id, lane, account, cost) else redis.call('ZREM', waiting_key(lane), id) end
      repair('place_of_nobody')
    elseif redis.call('ZSCORE', queue_key(lane), id) then
      if redis.call('SADD', queued_key(account), id) == 1 then seat_found(account) end
    elseif not redis.call('ZSCORE', LATER, 'job ' .. id) then
      local stood = redis.call('ZSCORE', line_key(account, lane, family), id)
      if not stood then line_up(id, lane, account, family, line_tag) end
      -- Should the end of its account's rest have been lost, nobody else gives it its seat.
      fill_seats(account)
      if not stood or redis.call('ZSCORE', queue_key(lane), id) then repair('place_lost') end
    end
  end
  redis.call('HSET', lane_key(lane), 'checked', step[1])

  local waiting, counted = redis.call('ZCARD', waiting_key(lane)), 0
  local keys = redis.call('ZRANGE', backlog_key(lane), 0, -1, 'WITHSCORES')
  for n = 2, #keys, 2 do counted = counted + tonumber(keys[n]) end
  if counted ~= waiting then
    redis.call('DEL', backlog_key(lane), work_key(lane))
    for _, id in ipairs(redis.call('ZRANGE', waiting_key(lane), 0, -1)) do
      local account, cost = fields(job_key(id), 'account', 'cost')
      if account then
        redis.call('ZINCRBY', backlog_key(lane), 1, account)
        redis.call('ZINCRBY', work_key(lane), cost, account)
      end
    end
    repair('miscounted')
  end
end

local bytes = 0
for _, lane in ipairs(LANES) do
  for _, key in ipairs({waiting_key(lane), leases_key(lane)}) do
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      bytes = bytes + tonumber(redis.call('HGET', job_key(id), 'bytes') or 0)
    end
  end
end
if tonumber(redis.call('GET', BYTES) or 0) ~= bytes then
  redis.call('SET', BYTES, bytes)
  repair('miscounted')
end

for _, account in ipairs(redis.call('SMEMBERS', LIMITED)) do
  if redis.call('HEXISTS', account_key(account), 'learned') == 0 then -- forgotten, after a day
    redis.call('SREM', LIMITED, account)
  end
end

if repaired > 0 then redis.call('SET', REPAIRED, repaired, 'PX', shown) end
return repaired

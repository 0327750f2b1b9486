-- needs: clock, hash, keys, line, metrics, queue, vocabulary
-- Compare the keys of some accounts, and of the line as a whole, with the jobs' records, and repair the
-- differences: a Redis that lost its last second, or evicted a key, may leave some.
-- ARGV: time (ms) for which the number of repairs is shown, then accounts. Returns the number of repairs.
local shown = tonumber(ARGV[1])
local repaired = 0
local function repair(what)
  repaired = repaired + 1
  metrics.count('gateway_repairs_total', {what = what})
end

-- A job gets back its seat, which may have been given to another meanwhile.
local function seat_found(account)
  line.unseat(account)
  line.fill_seats(account)
  repair('seat_lost')
end

-- Leases: each belongs to a running job that has a seat of its account.
for _, lane in ipairs(vocabulary.lanes) do
  for _, id in ipairs(redis.call('ZRANGE', keys.leases(lane), 0, -1)) do
    local state, its_lane, account, claimed = hash.get(keys.job(id), 'state', 'lane', 'account', 'claimed')
    if state ~= 'running' or its_lane ~= lane then
      redis.call('ZREM', keys.leases(lane), id)
      repair('lease_of_nobody')
    elseif redis.call('ZADD', keys.running(account), 'NX', claimed, id) == 1 then
      seat_found(account)
    end
  end
end

for _, lane in ipairs(vocabulary.lanes) do
  if queue.sort(lane) then repair('miscounted') end
end

-- Recount the jobs that an account holds, by lane and family.
local function recount(account)
  local counted, differs = {}, false
  for _, ids in ipairs({redis.call('SMEMBERS', keys.queued(account)), redis.call('ZRANGE', keys.running(account), 0, -1)}) do
    for _, id in ipairs(ids) do
      local lane, family = hash.get(keys.job(id), 'lane', 'family')
      if lane then
        local field = lane .. ' ' .. family
        counted[field] = (counted[field] or 0) + 1
      end
    end
  end
  local held = hash.all(keys.held(account))
  for field, number in pairs(held) do differs = differs or counted[field] ~= tonumber(number) end
  for field in pairs(counted) do differs = differs or not held[field] end
  if not differs then return end
  redis.call('DEL', keys.held(account))
  for field, number in pairs(counted) do redis.call('HSET', keys.held(account), field, number) end
  repair('miscounted')
end

for i = 2, #ARGV do
  local account = ARGV[i]
  for _, id in ipairs(redis.call('ZRANGE', keys.running(account), 0, -1)) do
    local state, lane = hash.get(keys.job(id), 'state', 'lane')
    if state ~= 'running' then
      redis.call('ZREM', keys.running(account), id)
      repair('seat_of_nobody')
    elseif not redis.call('ZSCORE', keys.leases(lane), id) then
      redis.call('ZADD', keys.leases(lane), clock.now, id) -- it has expired, unless its worker renews it
      repair('lease_lost')
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', keys.queued(account))) do
    local state, lane = hash.get(keys.job(id), 'state', 'lane')
    if state ~= 'waiting' or not redis.call('ZSCORE', keys.queue(lane), id) then
      redis.call('SREM', keys.queued(account), id)
      repair('seat_of_nobody')
    end
  end
  recount(account)
  line.fill_seats(account)
end

-- Waiting jobs: each is counted, and is in one place.
for _, lane in ipairs(vocabulary.lanes) do
  local cursor = redis.call('HGET', keys.lane(lane), 'checked') or '0'
  local step = redis.call('ZSCAN', keys.waiting(lane), cursor, 'COUNT', 200)
  for n = 1, #step[2], 2 do
    local id = step[2][n]
    local state, account, family, line_tag =
      hash.get(keys.job(id), 'state', 'account', 'family', 'line_tag')
    if state ~= 'waiting' then
      if account then line.count_out(id, lane, account) else redis.call('ZREM', keys.waiting(lane), id) end
      repair('place_of_nobody')
    elseif redis.call('ZSCORE', keys.queue(lane), id) then
      if redis.call('SADD', keys.queued(account), id) == 1 then seat_found(account) end
    elseif not redis.call('ZSCORE', keys.later, 'job ' .. id) then
      local placed = redis.call('ZSCORE', keys.line(account, lane, family), id)
      if not placed then line.insert(id, lane, account, family, line_tag) end
      -- If the end of its account's cool-down was lost, it gets its seat here.
      line.fill_seats(account)
      if not placed or redis.call('ZSCORE', keys.queue(lane), id) then repair('place_lost') end
    end
  end
  redis.call('HSET', keys.lane(lane), 'checked', step[1])

  local waiting, counted = redis.call('ZCARD', keys.waiting(lane)), 0
  local accounts = redis.call('ZRANGE', keys.backlog(lane), 0, -1, 'WITHSCORES')
  for n = 2, #accounts, 2 do counted = counted + tonumber(accounts[n]) end
  if counted ~= waiting then
    redis.call('DEL', keys.backlog(lane))
    for _, id in ipairs(redis.call('ZRANGE', keys.waiting(lane), 0, -1)) do
      local account = redis.call('HGET', keys.job(id), 'account')
      if account then redis.call('ZINCRBY', keys.backlog(lane), 1, account) end
    end
    repair('miscounted')
  end
end

local bytes = 0
for _, lane in ipairs(vocabulary.lanes) do
  for _, key in ipairs({keys.waiting(lane), keys.leases(lane)}) do
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      bytes = bytes + tonumber(redis.call('HGET', keys.job(id), 'bytes') or 0)
    end
  end
end
if tonumber(redis.call('GET', keys.bytes) or 0) ~= bytes then
  redis.call('SET', keys.bytes, bytes)
  repair('miscounted')
end

for _, account in ipairs(redis.call('SMEMBERS', keys.limited)) do
  if redis.call('HEXISTS', keys.account(account), 'learned') == 0 then -- its record expired, after a day
    redis.call('SREM', keys.limited, account)
  end
end

if repaired > 0 then redis.call('SET', keys.repaired, repaired, 'PX', shown) end
return repaired

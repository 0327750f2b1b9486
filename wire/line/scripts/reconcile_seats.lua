-- needs: clock, hash, keys, line, queue, repairs, vocabulary
-- Compare all leases, and the seats of some accounts, with the jobs' records, and repair the differences:
-- a Redis that lost its last second, or evicted a key, may leave some. There are as many leases and seats
-- as slots at most. ARGV: accounts. Returns the number of repairs.

-- Leases: each belongs to a running job that has a seat of its account.
for _, lane in ipairs(vocabulary.lanes) do
  for _, id in ipairs(redis.call('ZRANGE', keys.leases(lane), 0, -1)) do
    local state, its_lane, account, claimed = hash.get(keys.job(id), 'state', 'lane', 'account', 'claimed')
    if state ~= 'running' or its_lane ~= lane then
      redis.call('ZREM', keys.leases(lane), id)
      repairs.count('lease_of_nobody')
    elseif redis.call('ZADD', keys.running(account), 'NX', claimed, id) == 1 then
      repairs.seat_found(account)
    end
  end
end

for _, lane in ipairs(vocabulary.lanes) do
  if queue.sort(lane) then repairs.count('miscounted') end
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
  repairs.count('miscounted')
end

for _, account in ipairs(ARGV) do
  for _, id in ipairs(redis.call('ZRANGE', keys.running(account), 0, -1)) do
    local state, lane = hash.get(keys.job(id), 'state', 'lane')
    if state ~= 'running' then
      redis.call('ZREM', keys.running(account), id)
      repairs.count('seat_of_nobody')
    elseif not redis.call('ZSCORE', keys.leases(lane), id) then
      redis.call('ZADD', keys.leases(lane), clock.now, id) -- it has expired, unless its worker renews it
      repairs.count('lease_lost')
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', keys.queued(account))) do
    local state, lane = hash.get(keys.job(id), 'state', 'lane')
    if state ~= 'waiting' or not redis.call('ZSCORE', keys.queue(lane), id) then
      redis.call('SREM', keys.queued(account), id)
      repairs.count('seat_of_nobody')
    end
  end
  recount(account)
  line.fill_seats(account)
end
return repairs.made

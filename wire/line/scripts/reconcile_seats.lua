-- needs: accounts, clock, hash, keys, lanes, leases, line, queue, repairs, upstreams, vocabulary
-- Compare all leases, and the seats of some keys, with the jobs' records, and repair the differences:
-- a Redis that lost its last second, or evicted a key, may leave some. There are as many leases and seats
-- as slots at most. ARGV: keys, and accounts. Returns the number of repairs.

-- Leases: each belongs to a running job that has a seat of its key and a slot of its account.
local function check_leases(upstream, sort)
  for _, name in ipairs(redis.call('ZRANGE', keys.leases(upstream, sort), 0, -1)) do
    local id = leases.job(name)
    local state, lane, key, account, its_upstream, claimed =
      hash.get(keys.job(id), 'state', 'lane', 'key', 'account', 'upstream', 'claimed')
    if state ~= 'running' or its_upstream ~= upstream or lanes.sort(lane) ~= sort then
      redis.call('ZREM', keys.leases(upstream, sort), name)
      repairs.count('lease_of_nobody')
    else
      local lost = redis.call('ZADD', keys.running(key), 'NX', claimed, id) == 1
      if accounts.hold(account, name) or lost then repairs.seat_found(key) end
    end
  end
end

for _, name in ipairs(upstreams.all()) do
  for _, sort in ipairs(vocabulary.sorts) do check_leases(name, sort) end
  for _, lane in ipairs(redis.call('SMEMBERS', keys.serves(name))) do
    if queue.mend(lane) then repairs.count('miscounted') end
  end
end

-- Recount the slots of the jobs that a key holds, by lane and family.
local function recount(key)
  local counted, differs = {}, false
  for _, ids in ipairs({redis.call('SMEMBERS', keys.queued(key)), redis.call('ZRANGE', keys.running(key), 0, -1)}) do
    for _, id in ipairs(ids) do
      local lane, family, slots = hash.get(keys.job(id), 'lane', 'family', 'slots')
      if lane then
        local field = lane .. ' ' .. family
        counted[field] = (counted[field] or 0) + (slots or 1)
      end
    end
  end
  local held = hash.all(keys.held(key))
  for field, number in pairs(held) do differs = differs or counted[field] ~= tonumber(number) end
  for field in pairs(counted) do differs = differs or not held[field] end
  if not differs then return end
  redis.call('DEL', keys.held(key))
  for field, number in pairs(counted) do redis.call('HSET', keys.held(key), field, number) end
  repairs.count('miscounted')
end

for _, key in ipairs(ARGV) do
  for _, id in ipairs(redis.call('ZRANGE', keys.running(key), 0, -1)) do
    local state, lane, upstream = hash.get(keys.job(id), 'state', 'lane', 'upstream')
    if state ~= 'running' then
      redis.call('ZREM', keys.running(key), id)
      repairs.count('seat_of_nobody')
    elseif not redis.call('ZSCORE', keys.leases(upstream, lanes.sort(lane)), id) then
      -- It has expired, unless its worker renews it.
      leases.hold(id, hash.some(keys.job(id), unpack(leases.FIELDS)), clock.now)
      repairs.count('lease_lost')
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', keys.holds(key))) do -- also of an account that keys share
    local state, account = hash.get(keys.job(leases.job(id)), 'state', 'account')
    if state ~= 'running' or account ~= key then
      accounts.release(key, id)
      repairs.count('seat_of_nobody')
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', keys.queued(key))) do
    local state, lane = hash.get(keys.job(id), 'state', 'lane')
    if state ~= 'waiting' or not redis.call('ZSCORE', keys.queue(lane), id) then
      redis.call('SREM', keys.queued(key), id)
      repairs.count('seat_of_nobody')
    end
  end
  recount(key)
  line.fill_seats(key)
end
return repairs.made

-- needs: hash, keys, pauses, repairs, upstreams, vocabulary
-- Compare the counts of the line with its jobs, and correct them. All jobs have to be read in one call, as
-- the counts change with each of them; so nothing is done while there are more than `most`.
-- ARGV: most. Returns the number of repairs.
local most = tonumber(ARGV[1])

pauses.mend()

-- The jobs, by the sorted sets that they are in; and the lanes in which some may be counted.
local places, number, lanes = {}, 0, {}
for _, sort in ipairs(vocabulary.sorts) do places[#places + 1] = keys.waiting(sort) end
for _, name in ipairs(upstreams.all()) do
  for _, sort in ipairs(vocabulary.sorts) do places[#places + 1] = keys.leases(name, sort) end
  for _, lane in ipairs(redis.call('SMEMBERS', keys.serves(name))) do lanes[lane] = true end
end
for _, name in ipairs(places) do number = number + redis.call('ZCARD', name) end
for lane in pairs(lanes) do number = math.max(number, redis.call('ZCARD', keys.backlog(lane))) end
if number > most then return 0 end

-- Numbers of waiting jobs that should be noted, by lane and key, and by key and lane; and the memory of all jobs.
local backlogs, waits, sum = {}, {}, 0
for lane in pairs(lanes) do backlogs[lane] = {} end

local function count(lane, key)
  backlogs[lane] = backlogs[lane] or {}
  waits[key] = waits[key] or {}
  backlogs[lane][key] = (backlogs[lane][key] or 0) + 1
  waits[key][lane] = backlogs[lane][key]
end

for i, name in ipairs(places) do
  for _, id in ipairs(redis.call('ZRANGE', name, 0, -1)) do
    local lane, key, bytes = hash.get(keys.job(id), 'lane', 'key', 'bytes')
    sum = sum + tonumber(bytes or 0)
    if key and i <= #vocabulary.sorts then count(lane, key) end -- it waits
  end
end

-- Correct the numbers in a sorted set. Returns its former members.
local function correct(name, counted)
  local noted, members, differs = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES'), {}, false
  for n = 1, #noted, 2 do
    members[noted[n]] = true
    differs = differs or counted[noted[n]] ~= tonumber(noted[n + 1])
  end
  for member in pairs(counted) do differs = differs or not members[member] end
  if differs then
    redis.call('DEL', name)
    for member, number in pairs(counted) do redis.call('ZADD', name, number, member) end
    repairs.count('miscounted')
  end
  return members
end

for lane, counted in pairs(backlogs) do
  for key in pairs(correct(keys.backlog(lane), counted)) do waits[key] = waits[key] or {} end
end
for key, counted in pairs(waits) do correct(keys.waits(key), counted) end
if tonumber(redis.call('GET', keys.bytes) or 0) ~= sum then
  redis.call('SET', keys.bytes, sum)
  repairs.count('miscounted')
end

for _, account in ipairs(redis.call('SRANDMEMBER', keys.limited, most)) do
  if redis.call('HEXISTS', keys.account(account), 'learned') == 0 then -- its record expired, after a day
    redis.call('SREM', keys.limited, account)
  end
end
return repairs.made

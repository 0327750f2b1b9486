-- needs: hash, keys, repairs, vocabulary
-- Compare the counts of the line with its jobs, and correct them. All jobs have to be read in one call, as
-- the counts change with each of them; so nothing is done while there are more than `most`.
-- ARGV: most. Returns the number of repairs.
local most = tonumber(ARGV[1])

local jobs = 0
for _, lane in ipairs(vocabulary.lanes) do
  for _, key in ipairs({keys.waiting(lane), keys.leases(lane)}) do jobs = jobs + redis.call('ZCARD', key) end
  if redis.call('ZCARD', keys.backlog(lane)) > most then return 0 end
end
if jobs > most then return 0 end

-- Correct the number of waiting jobs of each account.
local function correct_backlog(lane, counted)
  local key, known, differs = keys.backlog(lane), {}, false
  local noted = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for n = 1, #noted, 2 do
    known[noted[n]] = true
    differs = differs or counted[noted[n]] ~= tonumber(noted[n + 1])
  end
  for account in pairs(counted) do differs = differs or not known[account] end
  if not differs then return end
  redis.call('DEL', key)
  for account, number in pairs(counted) do redis.call('ZADD', key, number, account) end
  repairs.count('miscounted')
end

local sum = 0
for _, lane in ipairs(vocabulary.lanes) do
  local counted = {}
  for _, id in ipairs(redis.call('ZRANGE', keys.waiting(lane), 0, -1)) do
    local account, bytes = hash.get(keys.job(id), 'account', 'bytes')
    sum = sum + tonumber(bytes or 0)
    if account then counted[account] = (counted[account] or 0) + 1 end
  end
  for _, id in ipairs(redis.call('ZRANGE', keys.leases(lane), 0, -1)) do
    sum = sum + tonumber(redis.call('HGET', keys.job(id), 'bytes') or 0)
  end
  correct_backlog(lane, counted)
end
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

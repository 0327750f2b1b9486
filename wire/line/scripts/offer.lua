-- needs: channels, durations, keys
-- Describe an upstream that a worker serves; repeated at every heartbeat. The lanes and accounts that an earlier
-- description had are removed if this one does not have them.
-- ARGV: its name, a description as msgpack, what front ends are to know of it.
local name, offer, about = ARGV[1], cmsgpack.unpack(ARGV[2]), ARGV[3]

local changed = false

-- Make a set hold these members. Calls a function with each that is removed.
local function hold(set, members, removed)
  local wanted = {}
  for _, member in ipairs(members) do
    wanted[member] = true
    if redis.call('SADD', set, member) == 1 then changed = true end
  end
  for _, member in ipairs(redis.call('SMEMBERS', set)) do
    if not wanted[member] then
      redis.call('SREM', set, member)
      removed(member)
    end
  end
end

redis.call('HSET', keys.upstream(name), 'own', offer.own and 1 or 0, 'max_concurrency', offer.max_concurrency,
  'failures', offer.failures, 'reserves', cmsgpack.pack(offer.reserves), 'several', offer.several and 1 or 0,
  'about', about)
redis.call('PEXPIRE', keys.upstream(name), 10 * durations.MINUTE)
redis.call('SADD', keys.upstreams, name)

for _, lane in ipairs(offer.lanes) do redis.call('SADD', keys.servers(lane), name) end
hold(keys.serves(name), offer.lanes, function(lane)
  redis.call('SREM', keys.servers(lane), name)
  redis.call('HDEL', keys.precedence(name), 'at ' .. lane)
end)

local shared = {}
for account, cap in pairs(offer.accounts) do
  shared[#shared + 1] = account
  redis.call('HSET', keys.account(account), 'cap', cap)
  redis.call('PEXPIRE', keys.account(account), durations.DAY)
end
hold(keys.accounts(name), shared, function() end)
if changed then channels.nudge() end

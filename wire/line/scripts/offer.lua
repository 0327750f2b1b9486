-- needs: accounts, channels, durations, keys, lanes, upstreams
-- Describe an upstream that a worker serves; repeated at every heartbeat. The lanes and accounts that an earlier
-- description had are removed if this one does not have them. A lane whose jobs no other upstream would run is kept
-- until they have ended: the server itself answers them, with an error if it has lost their model.
-- ARGV: its name, a description as msgpack, what front ends are to know of it.
local name, described, about = ARGV[1], ARGV[2], ARGV[3]

local changed = false

-- Make a set hold these members. Calls a function with each that leaves it; one for which it is true stays.
local function hold(set, members, stays)
  local wanted = {}
  for _, member in ipairs(members) do
    wanted[member] = true
    if redis.call('SADD', set, member) == 1 then changed = true end
  end
  for _, member in ipairs(redis.call('SMEMBERS', set)) do
    if not wanted[member] and not stays(member) then redis.call('SREM', set, member) end
  end
end

-- Lanes of the jobs that run at this upstream.
local function running()
  local found = {}
  for sort in pairs(upstreams.record(name) and upstreams.record(name).reserves or {}) do
    for _, id in ipairs(redis.call('ZRANGE', keys.leases(name, sort), 0, -1)) do
      found[redis.call('HGET', keys.job(id), 'lane') or ''] = true
    end
  end
  return found
end

-- Serve these lanes, and those that cannot be left yet. Returns them, and '1' if there are any of the latter.
local function serve(offered)
  local serving, busy, leaving = {}, running(), '0'
  for n, lane in ipairs(offered) do
    serving[n] = lane
    redis.call('SADD', keys.servers(lane), name)
  end
  hold(keys.serves(name), offered, function(lane)
    local wanted = busy[lane] or redis.call('EXISTS', keys.backlog(lane)) == 1
    if wanted and not upstreams.is_served_elsewhere(lane, name) then
      serving[#serving + 1], leaving = lane, '1'
      return true
    end
    redis.call('SREM', keys.servers(lane), name)
    redis.call('HDEL', keys.precedence(name), 'at ' .. lane)
  end)
  return serving, leaving
end

-- Slots reserved for each sort of these lanes, 1 if there are several lanes of a sort, and 1 if some are of keys' own
-- accounts.
local function by_sort(serving, reserves)
  local found, several, own = {}, 0, 0
  for _, lane in ipairs(serving) do
    local sort = lanes.sort(lane)
    if found[sort] then several = 1 end
    if lanes.is_own(lane) then own = 1 end
    found[sort] = reserves[sort]
  end
  return found, several, own
end

-- Describe the shared accounts: an account whose token has changed is used again. `tokens` are their names.
local function describe_accounts(caps, tokens, serving)
  local names, families = {}, {}
  for _, lane in ipairs(serving) do families[lanes.model(lane) or ''] = true end
  for account, cap in pairs(caps) do
    names[#names + 1] = account
    local token, former = tokens[account] or '', redis.call('HGET', keys.account(account), 'token')
    if former and former ~= token then
      accounts.wake(account, families)
      changed = true
    end
    redis.call('HSET', keys.account(account), 'cap', cap, 'token', token)
  end
  hold(keys.accounts(name), names, function() return false end)
end

-- An upstream may have thousands of lanes: most heartbeats change none of them.
local former, left = unpack(redis.call('HMGET', keys.upstream(name), 'described', 'leaving'))
if former ~= described or left == '1' then
  local offer = cmsgpack.unpack(described)
  local serving, leaving = serve(offer.lanes)
  local reserves, several, own = by_sort(serving, offer.reserves)
  redis.call('HSET', keys.upstream(name), 'own', own, 'max_concurrency', offer.max_concurrency,
    'failures', offer.failures, 'reserves', cmsgpack.pack(reserves), 'several', several, 'described', described,
    'leaving', leaving)
  describe_accounts(offer.accounts, offer.tokens, serving)
end
redis.call('HSET', keys.upstream(name), 'about', about)
redis.call('PEXPIRE', keys.upstream(name), 10 * durations.MINUTE)
redis.call('SADD', keys.upstreams, name)
for _, account in ipairs(redis.call('SMEMBERS', keys.accounts(name))) do
  redis.call('PEXPIRE', keys.account(account), durations.DAY)
end
if changed then channels.nudge() end

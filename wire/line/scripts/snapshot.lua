-- needs: accounts, clock, keys, pauses, pulse, upstreams, vocabulary
-- Numbers of jobs, accounts and workers now. Returns {{sort, waiting, running, leases}, ...}, {keys' own accounts
-- that cool down, families that are parked for them, accounts that may hold fewer}, workers, time until the first
-- circuit closes if those of all upstreams are open (ms; 0: a probe may be sent; -1: not all are open), time for which
-- the line settles (ms), upstreams that live workers serve, {{upstream with shared accounts, how many of them are paused,
-- else were set aside and have given no answer since, else cool down, else are parked for some model, else are ready},
-- ...}, slots of the upstreams that live workers serve, pauses of the intake of all jobs, of keys, of upstreams, of
-- accounts.
-- ARGV: gap (ms).
local names, sorts, soonest, served, slots = upstreams.all(), {}, nil, 0, 0
for i, sort in ipairs(vocabulary.sorts) do
  local running, all = 0, 0
  for _, name in ipairs(names) do
    running = running + redis.call('ZCOUNT', keys.leases(name, sort), clock.now, '+inf')
    all = all + upstreams.running(name, sort)
  end
  sorts[i] = {sort, redis.call('ZCARD', keys.waiting(sort)), running, all}
end
for _, name in ipairs(names) do
  soonest = math.min(soonest or math.huge, upstreams.open_for(name) or -1)
  if upstreams.is_served(name) then served, slots = served + 1, slots + upstreams.slots(name) end
end

local later = {account = {}, family = {}} -- how often each account comes there
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', keys.later, clock.now, '+inf')) do
  local kind, account = string.match(entry, '^(%a+) (%S+)')
  if later[kind] then later[kind][account] = (later[kind][account] or 0) + 1 end
end
local shared = {}
for _, name in ipairs(names) do
  local paused, aside, resting, parked, ready = 0, 0, 0, 0, 0
  for _, account in ipairs(upstreams.accounts(name)) do
    if accounts.is_paused(account) then
      paused = paused + 1
    elseif accounts.set_aside_for(account) then
      aside = aside + 1
    elseif later.account[account] then
      resting = resting + 1
    elseif later.family[account] then
      parked = parked + 1
    else
      ready = ready + 1
    end
    later.account[account], later.family[account] = nil, nil
  end
  if paused + aside + resting + parked + ready > 0 then
    shared[#shared + 1] = {name, paused, aside, resting, parked, ready}
  end
end
local resting, parked, numbers = 0, 0, pauses.numbers()
for _, number in pairs(later.account) do resting = resting + number end
for _, number in pairs(later.family) do parked = parked + number end
return {sorts, {resting, parked, redis.call('SCARD', keys.limited)},
  redis.call('ZCOUNT', keys.workers, clock.now, '+inf'), soonest or -1, pulse.settling(tonumber(ARGV[1])),
  served, shared, slots, {numbers.all, numbers.key, numbers.upstream, numbers.account}}

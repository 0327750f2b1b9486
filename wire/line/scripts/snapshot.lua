-- needs: clock, keys, pulse, upstreams, vocabulary
-- Numbers of jobs, accounts and workers now. Returns {{sort, waiting, running, leases}, ...}, {accounts
-- that cool down, families that are parked, accounts that may hold fewer}, workers, time until the first circuit
-- closes if those of all upstreams are open (ms; 0: a probe may be sent; -1: not all are open), time for which the
-- line settles (ms), upstreams that live workers serve. ARGV: gap (ms).
local names, sorts, soonest, served = upstreams.all(), {}, nil, 0
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
  if upstreams.is_served(name) then served = served + 1 end
end
local resting, parked = 0, 0
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', keys.later, clock.now, '+inf')) do
  if string.find(entry, '^account ') then resting = resting + 1 end
  if string.find(entry, '^family ') then parked = parked + 1 end
end
return {sorts, {resting, parked, redis.call('SCARD', keys.limited)},
  redis.call('ZCOUNT', keys.workers, clock.now, '+inf'), soonest or -1, pulse.settling(tonumber(ARGV[1])),
  served}

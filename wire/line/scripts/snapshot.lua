-- needs: breaker, clock, keys, lanes, pulse, vocabulary
-- Numbers of jobs, accounts and workers now. Returns {{sort, waiting, running, leases}, ...}, {accounts
-- that cool down, families that are parked, accounts that may hold fewer}, workers, time for which the
-- circuit stays open (ms; 0: a probe may be sent; -1: it is closed), time for which the line settles (ms).
-- ARGV: gap (ms).
local sorts = {}
for i, sort in ipairs(vocabulary.sorts) do
  local leases = keys.leases(lanes.MAIN, sort)
  sorts[i] = {sort, redis.call('ZCARD', keys.waiting(sort)), redis.call('ZCOUNT', leases, clock.now, '+inf'),
    redis.call('ZCARD', leases)}
end
local resting, parked = 0, 0
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', keys.later, clock.now, '+inf')) do
  if string.find(entry, '^account ') then resting = resting + 1 end
  if string.find(entry, '^family ') then parked = parked + 1 end
end
return {sorts, {resting, parked, redis.call('SCARD', keys.limited)},
  redis.call('ZCOUNT', keys.workers, clock.now, '+inf'), breaker.open_for() or -1,
  pulse.settling(tonumber(ARGV[1]))}

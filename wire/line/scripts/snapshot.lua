-- How many jobs, accounts and workers there are at this moment. Returns {{lane, waiting, running,
-- leases}, ...}, {accounts that rest, that are parked for a family, that may hold fewer}, workers,
-- for how long the circuit is open (ms; 0: a probe may be sent; -1: it is closed).
local lanes = {}
for i, lane in ipairs(LANES) do
  local leases = leases_key(lane)
  lanes[i] = {lane, redis.call('ZCARD', waiting_key(lane)), redis.call('ZCOUNT', leases, now, '+inf'),
    redis.call('ZCARD', leases)}
end
local resting, parked = 0, 0
for _, what in ipairs(redis.call('ZRANGEBYSCORE', LATER, now, '+inf')) do
  if string.find(what, '^account ') then resting = resting + 1 end
  if string.find(what, '^family ') then parked = parked + 1 end
end
return {lanes, {resting, parked, redis.call('SCARD', LIMITED)}, redis.call('ZCOUNT', WORKERS, now, '+inf'),
  open_for() or -1}

-- needs: clock, hash, keys
-- Numbers of conversations that an account, a lane and the whole upstream may hold.
local caps = {}

-- Cap of an account, from these two fields of its record.
function caps.lesser(cap, learned)
  cap = tonumber(cap or 1)
  return math.max(1, math.min(cap, math.floor(tonumber(learned or cap))))
end

function caps.of(account) return caps.lesser(hash.get(keys.account(account), 'cap', 'learned')) end

-- Slots of the upstream: limited by its cap, and by the live workers.
function caps.slots(max_concurrency)
  local offered = 0
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', keys.workers, clock.now, '+inf')) do
    local described = redis.call('GET', keys.worker(worker))
    if described then offered = offered + cjson.decode(described).max_jobs end
  end
  return math.min(max_concurrency, offered)
end

-- Number of the `all` slots that this lane gets while the others want theirs.
function caps.lane_slots(lane, all, reserves)
  local others, sum = 0, 0
  for name, reserve in pairs(reserves) do
    sum = sum + reserve
    if name ~= lane then others = others + redis.call('ZCARD', keys.leases(name)) end
  end
  return math.max(1, all * reserves[lane] / sum, all - others)
end

return caps

-- needs: clock, hash, keys, queue
-- Numbers of conversations that an account, a lane and the whole upstream may hold.
local caps = {}

-- Conversations that an account may hold now: its cap, or fewer if the upstream was seen to allow fewer.
function caps.of(account)
  local cap, learned = hash.get(keys.account(account), 'cap', 'learned')
  cap = tonumber(cap or 1)
  return math.max(1, math.min(cap, math.floor(tonumber(learned or cap))))
end

-- Slots of the upstream: limited by its cap, and by the live workers.
function caps.slots(max_concurrency)
  local offered = 0
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', keys.workers, clock.now, '+inf')) do
    local described = redis.call('GET', keys.worker(worker))
    if described then offered = offered + cjson.decode(described).max_jobs end
  end
  return math.min(max_concurrency, offered)
end

-- Number of the `all` slots that this lane gets: at least its reserve, and what the others neither hold nor want.
function caps.lane_slots(lane, all, reserves)
  local others, sum = 0, 0
  for _, reserve in pairs(reserves) do sum = sum + reserve end
  for name, reserve in pairs(reserves) do
    if name ~= lane then
      local wanted = queue.is_empty(name) and 0 or all * reserve / sum
      others = others + math.max(wanted, redis.call('ZCARD', keys.leases(name)))
    end
  end
  return math.max(all * reserves[lane] / sum, all - others)
end

return caps

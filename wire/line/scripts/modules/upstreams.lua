-- needs: clock, keys, lanes, queue, vocabulary
-- Upstreams, and the slots of each: for all its jobs, and for those of one sort.
local upstreams = {}

-- Slots of the upstream: limited by its cap, and by the live workers.
function upstreams.slots(max_concurrency)
  local offered = 0
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', keys.workers, clock.now, '+inf')) do
    local described = redis.call('GET', keys.worker(worker))
    if described then offered = offered + cjson.decode(described).max_jobs end
  end
  return math.min(max_concurrency, offered)
end

-- Number of the `all` slots that a sort gets: at least its reserve, and what the others neither hold nor want.
function upstreams.sort_slots(sort, all, reserves)
  local others, sum = 0, 0
  for _, reserve in pairs(reserves) do sum = sum + reserve end
  for name, reserve in pairs(reserves) do
    if name ~= sort then
      local wanted = queue.is_empty(name) and 0 or all * reserve / sum
      others = others + math.max(wanted, redis.call('ZCARD', keys.leases(lanes.MAIN, name)))
    end
  end
  return math.max(all * reserves[sort] / sum, all - others)
end

-- Count the slot time (ms) that a sort has had while another one waited.
function upstreams.count_slot_time(upstream, sort, took)
  for _, other in ipairs(vocabulary.sorts) do
    if other ~= sort and not queue.is_empty(other) then
      redis.call('HINCRBYFLOAT', keys.turns(upstream), 'had ' .. sort, took)
      return
    end
  end
end

return upstreams

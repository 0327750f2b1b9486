-- needs: keys
-- Ids of the waiting jobs that go next: about as many of each lane. ARGV: number to be returned, about.
local number = tonumber(ARGV[1])

local lanes, found = redis.call('SRANDMEMBER', keys.ready, number), {}
for _, lane in ipairs(lanes) do
  for _, id in ipairs(redis.call('ZRANGE', keys.queue(lane), 0, math.ceil(number / #lanes) - 1)) do
    found[#found + 1] = id
  end
end
return found

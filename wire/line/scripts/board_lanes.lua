-- needs: keys, service, upstreams
-- Lanes, as operators see them. ARGV: most keys to be returned of each, lanes. Returns {{lane, waiting jobs, keys that
-- wait, slots that it gets (as a text), expected slot time of a job (ms), its live upstreams, {key, number of its
-- waiting jobs, ...} with the most jobs first}, ...}: of the first lane, and of as many more as may be looked at.
local most = tonumber(ARGV[1])

local LOOKED_AT = 300 -- accounts that keys share

-- Number of waiting jobs of a lane. There may be too many keys to look at each one.
local function count(name, number, top)
  local sum, least = 0, 1
  while number > most do -- each key that has at least 1, 2, 3 ... jobs adds one to the sum
    sum, least = sum + number, least + 1
    number = redis.call('ZCOUNT', name, least, '+inf')
  end
  for n = 1, number do sum = sum + top[2 * n] - (least - 1) end
  return sum
end

local found, accounts = {}, 0
for n = 2, #ARGV do
  local lane = ARGV[n]
  accounts = accounts + upstreams.number_of_accounts(lane)
  if n > 2 and accounts > LOOKED_AT then break end
  local name = keys.backlog(lane)
  local number, top = redis.call('ZCARD', name), redis.call('ZREVRANGE', name, 0, most - 1, 'WITHSCORES')
  local slots = upstreams.lane_slots(lane)
  found[n - 1] = {lane, count(name, number, top), number, string.format('%.2f', slots), service.time(lane),
    upstreams.live(lane), top}
end
return found

-- needs: clock
-- Store items, and remove the oldest ones beyond the bound. KEYS: the index of all items, their size in
-- bytes. ARGV: lifetime (ms), maximum size, then the key and the box of each item.
local index, size = unpack(KEYS)
local lifetime, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local expires = clock.now + clock.micros % 1000 / 1000 + lifetime -- in the order of the calls

local total = tonumber(redis.call('GET', size) or 0)
for n = 3, #ARGV, 2 do
  local key, box = ARGV[n], ARGV[n + 1]
  redis.call('SET', key, box, 'PX', lifetime)
  -- A resumed answer is stored again: the same key with a box of the same size.
  if redis.call('ZADD', index, expires, key .. ' ' .. #box) == 1 then total = total + #box end
end

-- Expired ones leave only the index. Each call removes more than it adds, but not thousands.
local removed = 0
for _ = 1, 100 + #ARGV do
  local oldest, ends = unpack(redis.call('ZRANGE', index, 0, 0, 'WITHSCORES'))
  if not oldest or (tonumber(ends) > clock.now and total <= most) then break end
  local key, bytes = string.match(oldest, '^(.*) (%d+)$')
  removed = removed + redis.call('DEL', key)
  redis.call('ZREM', index, oldest)
  total = total - tonumber(bytes)
end

redis.call('SET', size, math.max(0, total), 'PX', lifetime)
redis.call('PEXPIRE', index, lifetime)
return removed

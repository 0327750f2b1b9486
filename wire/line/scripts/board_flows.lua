-- needs: hash, keys, line
-- Jobs of keys, as operators see them. ARGV: keys. Returns {{key, waiting, running, time (ms) at which the oldest of
-- its jobs that run or go next arrived, or '', the book of that job}, ...}.
local LOOKED_AT = 10 -- of a key's lines, and of its jobs in the queues

local function next_jobs(key)
  local found = redis.call('SRANDMEMBER', keys.queued(key), LOOKED_AT)
  found[#found + 1] = redis.call('ZRANGE', keys.running(key), 0, 0)[1]
  for _, described in ipairs(redis.call('SRANDMEMBER', keys.lines(key), LOOKED_AT)) do
    local name = keys.line(key, string.match(described, '^(%S+) (%S+)'))
    found[#found + 1] = redis.call('ZRANGE', name, 0, 0)[1]
  end
  return found
end

local found = {}
for n, key in ipairs(ARGV) do
  local oldest, book
  for _, id in ipairs(next_jobs(key)) do
    local arrived, its_book = hash.get(keys.job(id), 'arrived', 'book')
    arrived = tonumber(arrived or nil)
    if arrived and (not oldest or arrived < oldest) then oldest, book = arrived, its_book end
  end
  found[n] = {key, line.number_of(key), redis.call('ZCARD', keys.running(key)), oldest or '', book or ''}
end
return found

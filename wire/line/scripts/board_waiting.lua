-- needs: keys, line, pages, vocabulary
-- Ids of waiting jobs: those of a key, in the order in which they go, or all, in the order of their arrival. ARGV: number
-- to pass over, number to be returned, key or ''.
local offset, limit, key = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local LOOKED_AT = 1000 -- jobs that are tried again at a later time, of all keys

local names, first = {}, {} -- sorted sets of jobs; those that are in none of them
if key == '' then
  for n, sort in ipairs(vocabulary.sorts) do names[n] = keys.waiting(sort) end
else
  first = redis.call('SMEMBERS', keys.queued(key))
  local number = #first
  for n, described in ipairs(redis.call('SMEMBERS', keys.lines(key))) do
    names[n] = keys.line(key, string.match(described, '^(%S+) (%S+)'))
    number = number + redis.call('ZCARD', names[n])
  end
  if number < line.number_of(key) then
    for _, entry in ipairs(redis.call('ZRANGE', keys.later, 0, LOOKED_AT - 1)) do
      local id = string.match(entry, '^job (%S+)')
      if id and redis.call('HGET', keys.job(id), 'key') == key then first[#first + 1] = id end
    end
  end
end

local found = {unpack(first, offset + 1, math.min(#first, offset + limit))}
local left = pages.of(names, math.max(0, offset - #first), limit - #found)
for _, id in ipairs(left) do found[#found + 1] = id end
return found

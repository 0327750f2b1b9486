-- needs: keys, line, repairs
-- Compare the places of some waiting jobs of a sort with their records, and repair the differences: each
-- is counted, and is in one place. ARGV: sort, cursor ('0' at first), number of jobs that are read, about.
-- Returns {cursor for the next call, '0' if these were the last; number of repairs}.
local sort, cursor, number = unpack(ARGV)

local step = redis.call('ZSCAN', keys.waiting(sort), cursor, 'COUNT', number)
local in_lines = {} -- keys
for n = 1, #step[2], 2 do
  local id = step[2][n]
  local place = line.place(id)
  local lane, key = place.lane, place.key
  if place.state ~= 'waiting' then
    if key then line.count_out(id, lane, key) else redis.call('ZREM', keys.waiting(sort), id) end
    repairs.count('place_of_nobody')
  elseif redis.call('ZSCORE', keys.queue(lane), id) then
    if redis.call('SADD', keys.queued(key), id) == 1 then repairs.seat_found(key) end
  elseif not redis.call('ZSCORE', keys.later, 'job ' .. id) then
    in_lines[key] = true
    if not redis.call('ZSCORE', keys.line(key, lane, place.family), id) then
      line.insert(id, place)
      repairs.count('place_lost')
    end
  end
end

-- If the end of an account's cool-down was lost, its jobs get their seats here. Others get theirs when one
-- that has a seat ends.
for key in pairs(in_lines) do
  if redis.call('EXISTS', keys.queued(key), keys.running(key)) == 0 then
    line.fill_seats(key)
    if redis.call('EXISTS', keys.queued(key)) == 1 then repairs.count('place_lost') end
  end
end
return {step[1], repairs.made}

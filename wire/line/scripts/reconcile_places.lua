-- needs: hash, keys, line, repairs
-- Compare the places of some of a lane's waiting jobs with their records, and repair the differences: each
-- is counted, and is in one place. ARGV: lane, cursor ('0' at first), number of jobs that are read, about.
-- Returns {cursor for the next call, '0' if these were the last; number of repairs}.
local lane, cursor, number = unpack(ARGV)

local step = redis.call('ZSCAN', keys.waiting(lane), cursor, 'COUNT', number)
local in_lines = {} -- accounts
for n = 1, #step[2], 2 do
  local id = step[2][n]
  local state, account, family, line_tag =
    hash.get(keys.job(id), 'state', 'account', 'family', 'line_tag')
  if state ~= 'waiting' then
    if account then line.count_out(id, lane, account) else redis.call('ZREM', keys.waiting(lane), id) end
    repairs.count('place_of_nobody')
  elseif redis.call('ZSCORE', keys.queue(lane), id) then
    if redis.call('SADD', keys.queued(account), id) == 1 then repairs.seat_found(account) end
  elseif not redis.call('ZSCORE', keys.later, 'job ' .. id) then
    in_lines[account] = true
    if not redis.call('ZSCORE', keys.line(account, lane, family), id) then
      line.insert(id, lane, account, family, line_tag)
      repairs.count('place_lost')
    end
  end
end

-- If the end of an account's cool-down was lost, its jobs get their seats here. Others get theirs when one
-- that has a seat ends.
for account in pairs(in_lines) do
  if redis.call('EXISTS', keys.queued(account), keys.running(account)) == 0 then
    line.fill_seats(account)
    if redis.call('EXISTS', keys.queued(account)) == 1 then repairs.count('place_lost') end
  end
end
return {step[1], repairs.made}

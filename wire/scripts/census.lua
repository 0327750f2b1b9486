-- Of some jobs, how many belong to which queue and are in which state.
-- Returns a list of {queue, state, number}; jobs without a record are left out.
local numbers, found = {}, {}
for _, id in ipairs(ARGV) do
  local queue, state = unpack(redis.call('HMGET', 'gateway:job:' .. id, 'queue', 'state'), 1, 2)
  if queue and state then
    local kind = queue .. ' ' .. state
    if not numbers[kind] then
      numbers[kind] = {queue, state, 0}
      found[#found + 1] = numbers[kind]
    end
    numbers[kind][3] = numbers[kind][3] + 1
  end
end
return found

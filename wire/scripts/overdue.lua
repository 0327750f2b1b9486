-- Waiting jobs whose time was up a while ago, although their front ends should have seen to it. ARGV:
-- how long ago (ms). Returns {{id, front ends}, ...}.
local found = {}
for _, lane in ipairs(LANES) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting_key(lane), '-inf', now - ARGV[1], 'LIMIT', 0, 100)) do
    local front = redis.call('HGET', job_key(id), 'front')
    if front then found[#found + 1] = {id, front} end
  end
end
return found

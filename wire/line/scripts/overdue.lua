-- Waiting jobs whose time was up a while ago, although their front ends should have seen to it. ARGV:
-- how long ago (ms). Returns {{id, readers}, ...}.
local found = {}
for _, lane in ipairs(LANES) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting_key(lane), '-inf', now - ARGV[1], 'LIMIT', 0, 100)) do
    local readers = redis.call('HGET', job_key(id), 'readers')
    if readers then found[#found + 1] = {id, readers} end
  end
end
return found

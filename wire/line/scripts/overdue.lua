-- needs: clock, keys, vocabulary
-- Waiting jobs whose deadline passed some time ago, although their front ends should have finished them.
-- ARGV: that time (ms). Returns {{id, readers}, ...}.
local found = {}
for _, sort in ipairs(vocabulary.sorts) do
  local until_ = clock.now - ARGV[1]
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.waiting(sort), '-inf', until_, 'LIMIT', 0, 100)) do
    local readers = redis.call('HGET', keys.job(id), 'readers')
    if readers then found[#found + 1] = {id, readers} end
  end
end
return found

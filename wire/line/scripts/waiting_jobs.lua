-- needs: clock, hash, keys
-- The waiting jobs of a key that run on its own account, of one family or of all (''), whose deadline is within
-- some time. ARGV: key, family, that time (ms), maximum number of jobs. Returns {{id, readers}, ...}.
local key, family, within, limit = unpack(ARGV)

local found = {}
local function add(id)
  local state, account, its_family, readers, deadline =
    hash.get(keys.job(id), 'state', 'account', 'family', 'readers', 'deadline')
  if state == 'waiting' and account == key and (family == '' or family == its_family)
      and clock.now + within >= tonumber(deadline) and #found < tonumber(limit) then
    found[#found + 1] = {id, readers}
  end
end
for _, id in ipairs(redis.call('SMEMBERS', keys.queued(key))) do add(id) end
for _, its_line in ipairs(redis.call('SMEMBERS', keys.lines(key))) do
  local name = keys.line(key, string.match(its_line, '^(%S+) (%S+)'))
  for _, id in ipairs(redis.call('ZRANGE', name, 0, tonumber(limit) - 1)) do add(id) end
end
return found

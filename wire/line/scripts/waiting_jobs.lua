-- needs: clock, hash, keys
-- The waiting jobs of an account, of one family or of all (''), whose deadline is within some time.
-- ARGV: account, family, that time (ms), maximum number of jobs. Returns {{id, readers}, ...}.
local account, family, within, limit = unpack(ARGV)

local found = {}
local function add(id)
  local state, its_family, readers, deadline = hash.get(keys.job(id), 'state', 'family', 'readers', 'deadline')
  if state == 'waiting' and (family == '' or family == its_family) and clock.now + within >= tonumber(deadline)
      and #found < tonumber(limit) then
    found[#found + 1] = {id, readers}
  end
end
for _, id in ipairs(redis.call('SMEMBERS', keys.queued(account))) do add(id) end
for _, its_line in ipairs(redis.call('SMEMBERS', keys.lines(account))) do
  local key = keys.line(account, string.match(its_line, '^(%S+) (%S+)$'))
  for _, id in ipairs(redis.call('ZRANGE', key, 0, tonumber(limit) - 1)) do add(id) end
end
return found

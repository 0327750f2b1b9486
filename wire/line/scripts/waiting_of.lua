-- The waiting jobs of an account, of one family or of all (''), whose time is up within so long (ms).
-- ARGV: account, family, how long, how many at most. Returns {{id, readers}, ...}.
local account, family, within, most = unpack(ARGV)

local found = {}
local function add(id)
  local state, its_family, readers, deadline = fields(job_key(id), 'state', 'family', 'readers', 'deadline')
  if state == 'waiting' and (family == '' or family == its_family) and now + within >= tonumber(deadline)
      and #found < tonumber(most) then
    found[#found + 1] = {id, readers}
  end
end
for _, id in ipairs(redis.call('SMEMBERS', queued_key(account))) do add(id) end
for _, line in ipairs(redis.call('SMEMBERS', lines_key(account))) do
  local key = line_key(account, string.match(line, '^(%S+) (%S+)$'))
  for _, id in ipairs(redis.call('ZRANGE', key, 0, tonumber(most) - 1)) do add(id) end
end
return found

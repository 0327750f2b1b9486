-- The waiting jobs of an account, of one family or of all (''). ARGV: account, family, how many at
-- most. Returns {{id, readers}, ...}.
local account, family, most = unpack(ARGV)

local found = {}
local function add(id)
  local state, its_family, readers = fields(job_key(id), 'state', 'family', 'readers')
  if state == 'waiting' and (family == '' or family == its_family) and #found < tonumber(most) then
    found[#found + 1] = {id, readers}
  end
end
for _, id in ipairs(redis.call('SMEMBERS', queued_key(account))) do add(id) end
for _, name in ipairs(redis.call('SMEMBERS', lines_key(account))) do
  for _, id in ipairs(redis.call('ZRANGE', line_key(account, name), 0, tonumber(most) - 1)) do add(id) end
end
return found

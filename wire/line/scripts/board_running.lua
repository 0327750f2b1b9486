-- needs: hash, keys
-- Running jobs of an upstream, in the order of their leases. ARGV: its name, sort, number of leases to pass over, number
-- of leases to look at. Returns {number of leases that were looked at, {{id, lane, key, time of its claim (ms)}, ...}}.
local upstream, sort, offset, number = unpack(ARGV)

local seen = redis.call('ZRANGE', keys.leases(upstream, sort), offset, offset + number - 1)
local found = {}
for _, id in ipairs(seen) do
  local state, lane, key, claimed = hash.get(keys.job(id), 'state', 'lane', 'key', 'claimed')
  if state == 'running' then found[#found + 1] = {id, lane, key, claimed} end -- else a further lease of a job
end
return {#seen, found}

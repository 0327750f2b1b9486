-- needs: accounts, clock, hash, keys, upstreams
-- All upstreams that workers have described lately: {{name, max_concurrency, its description as msgpack, what front ends
-- are to know, time for which its circuit stays open in ms, or -1, {{account that was set aside and has given no answer
-- since, reason, time in ms until it is tried again}, ...}}, ...}.
local function set_aside(name)
  local found = {}
  for _, account in ipairs(upstreams.accounts(name)) do
    local reason = accounts.set_aside_for(account)
    if reason then
      found[#found + 1] = {account, reason, math.max(0, accounts.aside_until(account) - clock.now)}
    end
  end
  return found
end

local found = {}
for _, name in ipairs(upstreams.all()) do
  local max_concurrency, described, about = hash.get(keys.upstream(name), 'max_concurrency', 'described', 'about')
  if described then
    found[#found + 1] = {name, tonumber(max_concurrency), described, about, upstreams.open_for(name) or -1,
      set_aside(name)}
  end
end
return found

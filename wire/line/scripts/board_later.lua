-- needs: clock, keys
-- Accounts that cool down or have used up a family of models. Looks at some of all that resumes at a later time. ARGV:
-- number to pass over, number to look at, most of keys' own accounts to be returned, upstreams, whose accounts have
-- their names or `<upstream>/...`.
-- Returns {number that was looked at, number of keys' own accounts that are not returned, {account, its family or
-- '', until (ms), ...}}.
local offset, number, most = unpack(ARGV, 1, 3)

local upstreams, own, all, returned, found = {}, {}, 0, 0, {}
for n = 4, #ARGV do upstreams[ARGV[n]] = true end
local seen = redis.call('ZRANGEBYSCORE', keys.later, clock.now, '+inf', 'LIMIT', offset, number)
for _, entry in ipairs(seen) do
  local kind, account, family = string.match(entry, '^(%a+) (%S+) ?(%S*)')
  if kind == 'account' or kind == 'family' then
    local shared = upstreams[string.match(account, '^[^/]+')]
    if not shared and own[account] == nil then
      own[account] = returned < tonumber(most)
      all, returned = all + 1, returned + (own[account] and 1 or 0)
    end
    if shared or own[account] then
      local at = redis.call('ZSCORE', keys.later, entry)
      found[#found + 1], found[#found + 2], found[#found + 3] = account, family, tonumber(at)
    end
  end
end
return {#seen, all - returned, found}

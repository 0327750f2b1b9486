-- needs: clock, keys
-- Accounts that cool down or have used up a family of models. Looks at some of all that resumes at a later time. ARGV:
-- number to pass over, number to look at, most of keys' own accounts to be returned, upstreams, whose accounts have
-- their names or `<upstream>/...`.
-- Returns {number that was looked at, about the number of keys' own accounts that are not returned, {account, its family or
-- '', until (ms), ...}}.
local offset, number, most = ARGV[1], ARGV[2], tonumber(ARGV[3])

local upstreams, own, listed, more, found = {}, {}, 0, 0, {}
for n = 4, #ARGV do upstreams[ARGV[n]] = true end

local function list(entry, is_own)
  local account, family = string.match(entry, '^%a+ (%S+) ?(%S*)')
  if is_own and not own[account] then own[account], listed = true, listed + 1 end
  found[#found + 1], found[#found + 2], found[#found + 3] = account, family, tonumber(redis.call('ZSCORE', keys.later, entry))
end

local seen = redis.call('ZRANGEBYSCORE', keys.later, clock.now, '+inf', 'LIMIT', offset, number)
for _, entry in ipairs(seen) do
  local first = string.byte(entry) -- of `account` or `family`, or of others; thousands of patterns would take long
  if first == 97 or first == 102 then
    local is_own = not upstreams[string.match(entry, '^%a+ ([^ /]+)')]
    if is_own and listed >= most then more = more + 1 else list(entry, is_own) end
  end
end
return {#seen, more, found}

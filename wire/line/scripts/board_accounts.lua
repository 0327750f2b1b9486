-- needs: accounts, hash, keys, line
-- Accounts, as operators see them. ARGV: names. Returns {{account, slots, slots that it was seen to have or 0, jobs that
-- it holds, the reason for which it is set aside or '', time (ms) until which it cools down or 0, number of waiting jobs
-- if it is a key's own}, ...}.
local found = {}
for n, account in ipairs(ARGV) do
  local cap, learned, aside = hash.get(keys.account(account), 'cap', 'learned', 'aside')
  found[n] = {account, tonumber(cap or 1), math.floor(learned or 0), redis.call('SCARD', keys.holds(account)),
    aside or '', tonumber(accounts.is_cooling(account) or 0), line.number_of(account)}
end
return found

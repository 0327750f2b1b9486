-- needs: accounts, channels, keys, line
-- An operator has an account used again at once, for all its models: it is not paused, does not cool down, is not set
-- aside, and has used up nothing; and it may hold as many jobs as it has slots.
-- ARGV: account. Returns 1, 0 if nothing of that was the case, or -1 if the account is unknown.
local account = ARGV[1]

if redis.call('EXISTS', keys.account(account)) == 0 and not accounts.is_paused(account) then return -1 end
local families, woken = {}, accounts.is_held_back(account)
for _, entry in ipairs(redis.call('ZRANGE', keys.later, 0, -1)) do
  local its, family = string.match(entry, '^family (%S+) (.*)$')
  if its == account then families[family], woken = true, true end
end
accounts.wake(account, families)
woken = line.resume('account', account) or woken
if not woken then return 0 end
line.fill_seats(account) -- of the key whose own account it is, if it is
channels.nudge()
return 1

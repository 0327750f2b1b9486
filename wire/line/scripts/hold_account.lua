-- needs: accounts, clock, hash, jobs, keys
-- The answer of a job says that its account, which keys share, has used up a limit: it cools down until that is reset,
-- and gets no job meanwhile. ARGV: id, attempt, time until then (ms). Returns 1, or 0 if this attempt is not the current
-- one.
local id, attempt, pause = unpack(ARGV)

if not jobs.is_current(id, attempt) then return 0 end
local account = hash.get(keys.job(id), 'account')
local until_ = math.max(clock.now + pause, tonumber(accounts.is_cooling(account) or 0))
accounts.cool_down(account, until_)
return 1

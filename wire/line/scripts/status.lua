-- needs: forecast, hash, keys
-- Status of a job. ARGV: its id, the Redis key of the idempotency key that it may be instead, account,
-- limits. Returns {id, state, place, wait in ms, readers}, with place 0 if it is not waiting; or nothing
-- if the account has no such job.
local id, idem, account, limits = ARGV[1], ARGV[2], ARGV[3], cmsgpack.unpack(ARGV[4])

id = string.match(redis.call('GET', idem) or '', '^(%S+)') or id
local its_account, state, readers = hash.get(keys.job(id), 'account', 'state', 'readers')
if not its_account or its_account ~= account then return {} end
local place, wait = forecast.of(id, limits)
return {id, state, place, wait, readers}

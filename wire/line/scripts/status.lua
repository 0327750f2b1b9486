-- needs: forecast, hash, keys
-- Status of a job. ARGV: its id, the Redis key of the idempotency key that it may be instead, key,
-- limits. Returns {id, state, place, wait in ms, readers}, with place 0 if it is not waiting; or nothing
-- if the key has no such job.
local id, idem, key, limits = ARGV[1], ARGV[2], ARGV[3], cmsgpack.unpack(ARGV[4])

id = string.match(redis.call('GET', idem) or '', '^(%S+)') or id
local its_key, state, readers = hash.get(keys.job(id), 'key', 'state', 'readers')
if not its_key or its_key ~= key then return {} end
local place, wait = forecast.of(id, limits)
return {id, state, place, wait, readers}

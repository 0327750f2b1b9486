-- needs: clock, forecast, hash, keys
-- Status of a job. ARGV: its id, the Redis key of the idempotency key that it may be instead, account,
-- limits. Returns {id, state, place, wait in ms, readers}, with place 0 if it is not waiting; or nothing
-- if the account has no such job.
local id, idem, account, limits = ARGV[1], ARGV[2], ARGV[3], cmsgpack.unpack(ARGV[4])

id = string.match(redis.call('GET', idem) or '', '^(%S+)') or id
local job = hash.all(keys.job(id))
if job.account ~= account then return {} end
if job.state ~= 'waiting' then return {id, job.state, 0, 0, job.readers} end
job.line_tag, job.weight = tonumber(job.line_tag), tonumber(job.weight)
local queued = redis.call('ZSCORE', keys.queue(job.lane), id)
job.tag = queued and tonumber(queued)
local place, wait = forecast.wait(job, limits)
local not_before = tonumber(redis.call('ZSCORE', keys.later, 'job ' .. id) or clock.now) - clock.now
return {id, 'waiting', place, math.max(wait, not_before), job.readers}

-- Where a job is. ARGV: its id, the name of the idempotency key that it may be instead, account,
-- limits. Returns {id, state, place, wait in ms, readers}, place 0 if it does not wait; or nothing,
-- when this account has no such job.
local id, idem, account, limits = ARGV[1], ARGV[2], ARGV[3], cmsgpack.unpack(ARGV[4])

id = string.match(redis.call('GET', idem) or '', '^(%S+)') or id
local job = record(id)
if job.account ~= account then return {} end
if job.state ~= 'waiting' then return {id, job.state, 0, 0, job.readers} end
job.line_tag, job.weight = tonumber(job.line_tag), tonumber(job.weight)
local queued = redis.call('ZSCORE', queue_key(job.lane), id)
job.tag = queued and tonumber(queued)
local place, wait = predict(job, limits)
local later = tonumber(redis.call('ZSCORE', LATER, 'job ' .. id) or now) - now
return {id, 'waiting', place, math.max(wait, later), job.readers}

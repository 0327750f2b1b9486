-- needs: channels, durations, keys
-- An operator drains a worker: it finishes its jobs, claims no more, and ends. ARGV: worker.
-- Returns 'draining', 'already', 'unknown', or 'unreachable' if it does not listen now.
local worker = ARGV[1]

local presence = redis.call('GET', keys.worker(worker))
if redis.call('EXISTS', keys.draining(worker)) == 1 then return 'already' end
if not presence then return 'unknown' end
if cjson.decode(presence).max_jobs == 0 then return 'already' end
if channels.command(worker, {'drain'}) == 0 then return 'unreachable' end
redis.call('SET', keys.draining(worker), '', 'PX', durations.MINUTE)
return 'draining'

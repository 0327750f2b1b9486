-- needs: jobs, keys
-- Cancel a job: a waiting one at once, without an ending for its readers, a running one through its
-- worker. A done job loses its idempotency key, and is deleted soon.
-- ARGV: id, 1 if a waiting job is not to be cancelled.
-- Returns 'cancelled' (it was waiting), 'waiting' (and still is), 'running' or 'gone'.
local id, unless_waiting = unpack(ARGV)

local state = redis.call('HGET', keys.job(id), 'state')
if state == 'waiting' and unless_waiting == '1' then return state end
if not state then jobs.forbid(id) end
if state == 'done' then jobs.keep(id, redis.call('HGET', keys.job(id), 'idem'), 0) end
return jobs.cancel(id)

-- End a waiting job, and tell whoever reads it. ARGV: id, state, reason, entry, then channel and
-- frame of each front end. Returns 1, or 0 when it does not wait.
local id, ending, reason, entry = unpack(ARGV, 1, 4)

if redis.call('HGET', job_key(id), 'state') ~= 'waiting' then return 0 end
redis.call('XADD', log_key(id), '*', 'box', entry)
close_job(id, ending, reason)
publish(5)
return 1

-- needs: channels, jobs, keys
-- Finish a waiting job and publish its ending. ARGV: id, state, reason, entry, then channel and frame of
-- each front end. Returns 1, or 0 if it is not waiting.
local id, state, reason, entry = unpack(ARGV, 1, 4)

if redis.call('HGET', keys.job(id), 'state') ~= 'waiting' then return 0 end
redis.call('XADD', keys.log(id), '*', 'box', entry)
jobs.finish(id, state, reason)
channels.publish(5)
return 1

-- needs: clock, keys
-- Write the figures of a process. ARGV: its id, its figures as JSON, their lifetime (ms).
local id, figures, lifetime = unpack(ARGV)
redis.call('SET', keys.process(id), figures, 'PX', lifetime)
redis.call('ZREMRANGEBYSCORE', keys.processes, '-inf', clock.now)
redis.call('ZADD', keys.processes, clock.now + lifetime, id)
-- Those of another process may last longer.
if redis.call('PTTL', keys.processes) < tonumber(lifetime) then
  redis.call('PEXPIRE', keys.processes, lifetime)
end

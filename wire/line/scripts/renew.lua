-- needs: clock, hash, jobs, keys, leases, pulse
-- A worker's heartbeat: its presence, and the leases of all its jobs, in one call. ARGV: worker, its
-- presence as JSON, lifetime of the presence (ms), lease, gap, then id, attempt and tokens so far of each job.
-- Returns a list of {id, word}: 'lost' (the lease is not this worker's any more), 'cancel' (no reader
-- is left), 'revoked' (the job's key was revoked) or 'operator' (one has cancelled it).
local worker, presence, presence_ttl, lease, gap = unpack(ARGV, 1, 5)

redis.call('SET', keys.worker(worker), presence, 'PX', presence_ttl)
redis.call('ZREMRANGEBYSCORE', keys.fingerprints, '-inf', clock.now)
redis.call('ZADD', keys.fingerprints, clock.now + presence_ttl, keys.fingerprint)
redis.call('PEXPIRE', keys.fingerprints, presence_ttl)
redis.call('ZREMRANGEBYSCORE', keys.workers, '-inf', clock.now)
if cjson.decode(presence).max_jobs > 0 then
  redis.call('ZADD', keys.workers, clock.now + presence_ttl, worker)
else
  redis.call('ZREM', keys.workers, worker) -- it stops: it renews its leases and claims no more
end
local calm = pulse.undisturbed(tonumber(gap))
local verdicts = {}
for i = 6, #ARGV, 3 do
  local id, attempt, tokens = unpack(ARGV, i, i + 2)
  local state, holder, current, cancel, readers =
    hash.get(keys.job(id), 'state', 'worker', 'attempt', 'cancel', 'readers')
  if state ~= 'running' or holder ~= worker or current ~= attempt then
    verdicts[#verdicts + 1] = {id, 'lost'}
  else
    leases.hold(id, hash.some(keys.job(id), unpack(leases.FIELDS)), clock.now + lease)
    if tokens ~= '0' then redis.call('HSET', keys.job(id), 'tokens', tokens) end
    local abandoned = calm > tonumber(lease) and not jobs.has_reader(readers) and not jobs.orphan(id)
    if cancel or abandoned then verdicts[#verdicts + 1] = {id, cancel and cancel ~= '1' and cancel or 'cancel'} end
  end
end
return verdicts

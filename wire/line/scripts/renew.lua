-- A worker's heartbeat: its presence, and the leases of all its jobs, in one call. ARGV: worker, how
-- it describes itself, for how long (ms), lease, gap, then id and attempt of each job.
-- Returns a list of {id, word}: 'lost' (not its job any more) or 'cancel' (nobody wants it).
local worker, presence, presence_ttl, lease, gap = unpack(ARGV, 1, 5)

redis.call('SET', worker_channel(worker), presence, 'PX', presence_ttl)
redis.call('ZREMRANGEBYSCORE', FINGERPRINTS, '-inf', now)
redis.call('ZADD', FINGERPRINTS, now + presence_ttl, FINGERPRINT)
redis.call('PEXPIRE', FINGERPRINTS, presence_ttl)
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now)
if cjson.decode(presence).max_jobs > 0 then
  redis.call('ZADD', WORKERS, now + presence_ttl, worker)
else
  redis.call('ZREM', WORKERS, worker) -- it stops: it renews what it holds and takes no more
end
local calm = undisturbed(tonumber(gap))
local verdicts = {}
for i = 6, #ARGV, 2 do
  local id, attempt = ARGV[i], ARGV[i + 1]
  local state, holder, current, cancel, readers, lane =
    fields(job_key(id), 'state', 'worker', 'attempt', 'cancel', 'readers', 'lane')
  if state ~= 'running' or holder ~= worker or current ~= attempt then
    verdicts[#verdicts + 1] = {id, 'lost'}
  else
    redis.call('ZADD', leases_key(lane), now + lease, id)
    local alone = calm > tonumber(lease) and not has_reader(readers) and not orphan(id)
    if cancel or alone then verdicts[#verdicts + 1] = {id, 'cancel'} end
  end
end
return verdicts

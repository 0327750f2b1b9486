-- needs: breaker, channels, clock, hash, jobs, keys, service, strangers
-- Finish a running job: the log first, then the ending, then its seat and slot go to the next.
-- ARGV: id, attempt, state, reason, number of failures of the upstream that open the circuit (0: this is
-- not such a failure), entry, then channel and frame of each front end. Returns 1, or 0 if this attempt
-- is not (or no longer) the current one.
local id, attempt, state, reason, failures, entry = unpack(ARGV, 1, 6)

-- Faults of this job, or of its key, and of nothing else: so the upstream has answered.
local OWN_FAULT = {
  unauthorized = true, rate_limited = true, too_long = true, bad_file = true, bad_request = true,
}

if not jobs.is_current(id, attempt) then return 0 end
if failures ~= '0' and redis.call('HEXISTS', keys.job(id), 'published') == 0 then
  breaker.count_failure(id, tonumber(failures))
elseif OWN_FAULT[reason] then
  breaker.close()
end
local lane, key, claimed = hash.get(keys.job(id), 'lane', 'key', 'claimed')
if state == 'failed' and strangers.is_one(key) then
  strangers.note_failure(lane)
  service.learn_failure(lane, clock.now - tonumber(claimed))
end
redis.call('XADD', keys.log(id), '*', 'box', entry)
jobs.finish(id, state, reason)
channels.publish(7)
return 1

-- needs: breaker, channels, clock, hash, jobs, keys, service, strangers
-- Finish a running job: the log first, then the ending, then its seat and slot go to the next.
-- ARGV: id, attempt, state, reason, tokens in and out, 1 if it is a failure of the upstream that any other job would
-- have had too, entry, then channel and frame of each front end. Returns 1, or 0 if this attempt is not (or no longer) the
-- current one.
local id, attempt, state, reason, input, output, upstream_failed, entry = unpack(ARGV, 1, 8)

-- Faults of this job, or of its key, and of nothing else: so the upstream has answered.
local OWN_FAULT = {
  unauthorized = true, rate_limited = true, too_long = true, bad_file = true, bad_request = true,
}

if not jobs.is_current(id, attempt) then return 0 end
local lane, key, upstream, claimed, published =
  hash.get(keys.job(id), 'lane', 'key', 'upstream', 'claimed', 'published')
if upstream_failed == '1' and not published then
  breaker.count_failure(upstream, id)
elseif OWN_FAULT[reason] then
  breaker.close(upstream)
end
if state == 'failed' and strangers.is_one(key) then
  strangers.note_failure(lane)
  service.learn_failure(lane, clock.now - tonumber(claimed))
end
redis.call('XADD', keys.log(id), '*', 'box', entry)
jobs.finish(id, state, reason, {tonumber(input), tonumber(output)})
channels.publish(9)
return 1

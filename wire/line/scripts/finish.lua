-- End a running job: the log first, then the ending, then its seat and slot go to the next.
-- ARGV: id, attempt, state, reason, how many failures of the upstream open the circuit (0: this is
-- none), entry, then channel and frame of each front end. Returns 1, or 0 when this attempt is not
-- (or no longer) the one to end it.
local id, attempt, ending, reason, failures, entry = unpack(ARGV, 1, 6)

-- What is wrong with this job, or its account, and with nothing else: so the upstream has answered.
local OWN_FAULT = {unauthorized = true, rate_limited = true, too_long = true, bad_file = true}

if not is_current(id, attempt) then return 0 end
if failures ~= '0' and redis.call('HEXISTS', job_key(id), 'published') == 0 then
  upstream_failed(id, tonumber(failures))
elseif OWN_FAULT[reason] then
  upstream_answered()
end
redis.call('XADD', log_key(id), '*', 'box', entry)
close_job(id, ending, reason)
publish(7)
return 1

-- needs: accounts, breaker, channels, clock, durations, hash, jobs, keys, lanes, line, metrics, queue, strangers
-- Publish the first events of an attempt: from now on the job is never tried again. They are logged and
-- published only if the attempt is the current one.
-- ARGV: id, attempt, entry, then channel and frame of each front end. Returns 1 or 0.
local id, attempt, entry = unpack(ARGV, 1, 3)

if not jobs.is_current(id, attempt) then return 0 end
local lane, key, account, upstream, claimed =
  hash.get(keys.job(id), 'lane', 'key', 'account', 'upstream', 'claimed')
redis.call('HSET', keys.job(id), 'published', clock.now)
redis.call('XADD', keys.log(id), '*', 'box', entry)
redis.call('PEXPIRE', keys.log(id), durations.DAY)
channels.publish(4)

breaker.close(upstream)
if strangers.note_answer(lane, key) then queue.promote(key) end
if accounts.grow(account) then
  if account == key then line.fill_seats(key) else channels.nudge() end
end
metrics.observe('gateway_first_token_seconds', {lane = lanes.sort(lane)}, (clock.now - tonumber(claimed)) / 1000)
return 1

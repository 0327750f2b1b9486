-- needs: breaker, channels, clock, durations, hash, jobs, keys, line, metrics, queue, strangers
-- Publish the first events of an attempt: from now on the job is never tried again. They are logged and
-- published only if the attempt is the current one.
-- ARGV: id, attempt, entry, then channel and frame of each front end. Returns 1 or 0.
local id, attempt, entry = unpack(ARGV, 1, 3)

if not jobs.is_current(id, attempt) then return 0 end
local lane, account, claimed = hash.get(keys.job(id), 'lane', 'account', 'claimed')
redis.call('HSET', keys.job(id), 'published', 1)
redis.call('XADD', keys.log(id), '*', 'box', entry)
redis.call('PEXPIRE', keys.log(id), durations.DAY)
channels.publish(4)

breaker.close()
if strangers.note_answer(lane, account) then queue.promote(account) end
redis.call('HDEL', keys.account(account), 'rest')
local cap, learned = hash.get(keys.account(account), 'cap', 'learned')
if learned then -- its cap was once too much; try for more, one more after as many answers as it holds
  learned = tonumber(learned) + 1 / tonumber(learned)
  if learned >= tonumber(cap) then
    redis.call('HDEL', keys.account(account), 'learned')
    redis.call('SREM', keys.limited, account)
  else
    redis.call('HSET', keys.account(account), 'learned', learned)
  end
  line.fill_seats(account)
end
metrics.observe('gateway_first_token_seconds', {lane = lane}, (clock.now - tonumber(claimed)) / 1000)
return 1

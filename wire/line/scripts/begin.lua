-- The first events of an attempt: from here on the job is never tried again in silence. Logged and
-- published only if the attempt is still the current one.
-- ARGV: id, attempt, entry, then channel and frame of each front end. Returns 1 or 0.
local id, attempt, entry = unpack(ARGV, 1, 3)

if not is_current(id, attempt) then return 0 end
local lane, account, claimed = fields(job_key(id), 'lane', 'account', 'claimed')
redis.call('HSET', job_key(id), 'published', 1)
redis.call('XADD', log_key(id), '*', 'box', entry)
redis.call('PEXPIRE', log_key(id), DAY)
publish(4)

upstream_answered()
redis.call('HDEL', account_key(account), 'rest')
local cap, learned = fields(account_key(account), 'cap', 'learned')
if learned then -- it was once too much; try for more, one more after as many answers as it holds
  learned = tonumber(learned) + 1 / tonumber(learned)
  if learned >= tonumber(cap) then
    redis.call('HDEL', account_key(account), 'learned')
    redis.call('SREM', LIMITED, account)
  else
    redis.call('HSET', account_key(account), 'learned', learned)
  end
  fill_seats(account)
end
observe('gateway_first_token_seconds', {lane = lane}, (now - tonumber(claimed)) / 1000)
return 1

-- Put a new job in line, at the end. Returns 1, or 0 when it is there already.
local id, queue, account, cap, front, front_ttl, body, arq_job, ttl = unpack(ARGV)

redis.call('SET', front_key(front), '', 'PX', front_ttl) -- whoever enqueues is alive
if redis.call('EXISTS', job_key(id)) == 1 then return 0 end
redis.call('HSET', job_key(id), 'state', 'waiting', 'queue', queue, 'account', account,
  'front', front, 'score', arrival, 'attempt', 0, 'crashes', 0, 'body', body)
redis.call('PEXPIRE', job_key(id), ttl)
redis.call('SET', 'arq:job:' .. id, arq_job, 'PX', ttl)
redis.call('HSET', account_key(account), 'cap', cap)
redis.call('PEXPIRE', account_key(account), ttl)
redis.call('ZADD', line_key(account), arrival, id)
fill_seats(account)
return 1

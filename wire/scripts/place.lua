-- How many jobs are ahead of this one: of all that may run now, and of its account's own.
-- Returns the place counted from 1, or 0 when the job does not wait.
local id = ARGV[1]

local state, account, queue, score =
  unpack(redis.call('HMGET', job_key(id), 'state', 'account', 'queue', 'score'), 1, 4)
if state ~= 'waiting' then return 0 end
local ahead = redis.call('ZCOUNT', queue, '-inf', '(' .. score)
local own = redis.call('ZRANK', line_key(account), id)
return 1 + ahead + (own or 0)

-- How many jobs are ahead of this one: of all that may run now, and of its account's own.
-- Returns the place counted from 1, or 0 when the job does not wait.
local id = ARGV[1]

local job = redis.call('HMGET', job_key(id), 'state', 'account', 'queue', 'score')
if job[1] ~= 'waiting' then return 0 end
local ahead = redis.call('ZCOUNT', job[3], '-inf', '(' .. job[4])
local own = redis.call('ZRANK', line_key(job[2]), id)
return 1 + ahead + (own or 0)

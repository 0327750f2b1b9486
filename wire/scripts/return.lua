-- Hand a claimed job back, untouched, to its old place (a worker that stops). Returns 1 or 0.
local id, attempt = unpack(ARGV)

local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'account', 'queue', 'score', 'published')
if job[1] ~= 'running' or job[2] ~= attempt or job[6] then return 0 end
put_back(id, job[3], job[4], job[5])
return 1

-- Hand a claimed job back, untouched, to its old place (a worker that stops). Returns 1 or 0.
local id, attempt = unpack(ARGV)

local state, current, account, queue, score, published = unpack(redis.call('HMGET', job_key(id),
  'state', 'attempt', 'account', 'queue', 'score', 'published'), 1, 6)
if state ~= 'running' or current ~= attempt or published then return 0 end
put_back(id, account, queue, score)
return 1

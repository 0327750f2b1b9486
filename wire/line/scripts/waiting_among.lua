-- needs: keys
-- Those of the jobs in ARGV, given by their ids, that are waiting.
local waiting = {}
for _, id in ipairs(ARGV) do
  if redis.call('HGET', keys.job(id), 'state') == 'waiting' then waiting[#waiting + 1] = id end
end
return waiting

-- needs: clock, pulse
-- Claim conversations that are due. KEYS: the set. ARGV: prefix of the records, time until they are due
-- again (ms), maximum number, gap (ms), time without a disturbance (ms) that is required.
-- Returns {{id, record or false, time (ms) for which the record is still kept}, ...}.
local prefix, again, limit, gap, calm = unpack(ARGV)

if pulse.undisturbed(tonumber(gap)) < tonumber(calm) then return {} end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', clock.now, 'LIMIT', 0, limit)
for n, id in ipairs(due) do
  local record = redis.call('GET', prefix .. id)
  if record then
    redis.call('ZADD', KEYS[1], clock.now + again, id)
  else
    redis.call('ZREM', KEYS[1], id)
  end
  due[n] = {id, record, redis.call('PTTL', prefix .. id)}
end
return due

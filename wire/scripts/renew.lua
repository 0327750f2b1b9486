-- A worker's heartbeat: its presence, and the leases of all its jobs, in one call.
-- Returns a list of {id, word}: 'lost' (not its job any more) or 'cancel' (nobody wants it).
local worker, presence, presence_ttl, lease, gap = unpack(ARGV, 1, 5)

redis.call('SET', 'gateway:worker:' .. worker, presence, 'PX', presence_ttl)
local calm = undisturbed(tonumber(gap))
local verdicts = {}
for i = 6, #ARGV, 2 do
  local id, attempt = ARGV[i], ARGV[i + 1]
  local state, holder, current, cancel, fronts = unpack(redis.call('HMGET', job_key(id),
    'state', 'worker', 'attempt', 'cancel', 'front'), 1, 5)
  if state ~= 'running' or holder ~= worker or current ~= attempt then
    verdicts[#verdicts + 1] = {id, 'lost'}
  else
    redis.call('ZADD', LEASES, now + lease, id)
    local alone = calm > tonumber(lease) and not is_awaited(fronts)
    if cancel or alone then verdicts[#verdicts + 1] = {id, 'cancel'} end
  end
end
return verdicts

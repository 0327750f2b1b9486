-- needs: clock, hash, keys, lanes, upstreams
-- Waiting jobs of a lane whose deadlines are earlier than the time at which an account can run them again, as all
-- have used up its models. Looked for among a number of the sort's waiting jobs. ARGV: lane, number of jobs to pass
-- over, number of jobs to look at. Returns {number of jobs that were looked at, {{id, readers}, ...}}.
local lane, offset, number = unpack(ARGV)

local until_ = upstreams.spent_until({lane = lane})
if until_ <= clock.now then return {0, {}} end
local seen = redis.call('ZRANGEBYSCORE', keys.waiting(lanes.sort(lane)), '-inf', until_, 'LIMIT', offset, number)
local found = {}
for _, id in ipairs(seen) do
  local its_lane, readers = hash.get(keys.job(id), 'lane', 'readers')
  if its_lane == lane then found[#found + 1] = {id, readers} end
end
return {#seen, found}

-- needs: accounts, clock, hash, keys, lanes, pauses
-- Upstreams, as the workers describe them: their accounts, the lanes that they serve, and their slots, for all
-- jobs and for those of one sort. An upstream may serve lanes of keys' own accounts, lanes of shared accounts, or
-- both, within one cap.
local upstreams = {}

local LEAVES = {embeddings = 1} -- slots that a sort leaves free, beyond its reserve, where others are served

-- Read once in a run of a script: slots offered by live workers, and records.
local offered
local records = {}

-- Record of an upstream: its `cap`, 0 if its accounts alone have caps; the `reserves` of its sorts; `several`, if it
-- has several lanes of a sort; `own`, if some of its lanes are of keys' own accounts. Or nil.
function upstreams.record(name)
  if records[name] == nil then
    local own, cap, reserves, several =
      hash.get(keys.upstream(name), 'own', 'max_concurrency', 'reserves', 'several')
    records[name] = reserves and {
      own = own == '1', cap = tonumber(cap), reserves = cmsgpack.unpack(reserves), several = several == '1',
    } or false
  end
  return records[name] or nil
end

-- Slots that live workers offer to an upstream; 0 if none serves it.
local function offered_to(name)
  if not offered then
    offered = {}
    for _, worker in ipairs(redis.call('ZRANGEBYSCORE', keys.workers, clock.now, '+inf')) do
      local described = redis.call('GET', keys.worker(worker))
      local presence = described and cjson.decode(described) or {}
      for _, upstream in ipairs(presence.upstreams or {}) do -- an older release names none
        offered[upstream] = (offered[upstream] or 0) + presence.max_jobs
      end
    end
  end
  return offered[name] or 0
end

-- Names of all upstreams.
function upstreams.all() return redis.call('SMEMBERS', keys.upstreams) end

-- Time (ms) for which an upstream's circuit stays open; nil if it is closed. 0: a probe may be sent.
function upstreams.open_for(name)
  local until_ = redis.call('HGET', keys.breaker(name), 'until')
  return until_ and math.max(0, tonumber(until_) - clock.now)
end

-- Failures in a row that open an upstream's circuit.
function upstreams.failures(name)
  return tonumber(redis.call('HGET', keys.upstream(name), 'failures') or math.huge)
end

-- True if a live worker serves an upstream and has described it.
function upstreams.is_served(name) return offered_to(name) > 0 and upstreams.record(name) ~= nil end

-- Upstreams of a lane that live workers serve.
function upstreams.live(lane)
  local found = {}
  for _, name in ipairs(redis.call('SMEMBERS', keys.servers(lane))) do
    if upstreams.is_served(name) then found[#found + 1] = name end
  end
  return found
end

-- True if live workers serve another upstream of a lane.
function upstreams.is_served_elsewhere(lane, name)
  for _, other in ipairs(upstreams.live(lane)) do
    if other ~= name then return true end
  end
  return false
end

-- True if an operator has paused an upstream.
function upstreams.is_paused(name) return pauses.holds('upstream', name) end

-- Upstreams of a lane that take jobs now: live ones that are not paused, and whose circuit is closed.
local function taking(lane)
  local found = {}
  for _, name in ipairs(upstreams.live(lane)) do
    if not upstreams.open_for(name) and not upstreams.is_paused(name) then found[#found + 1] = name end
  end
  return found
end

-- Names of the accounts of an upstream that all keys share.
function upstreams.accounts(name) return redis.call('SMEMBERS', keys.accounts(name)) end

-- Number of shared accounts that are looked at to find the slots of a lane.
function upstreams.number_of_accounts(lane)
  local sum = 0
  for _, name in ipairs(lanes.is_own(lane) and {} or upstreams.live(lane)) do
    sum = sum + redis.call('SCARD', keys.accounts(name))
  end
  return sum
end

-- Earliest time (ms) that `when` finds for one of an upstream's shared accounts and a lane of theirs, and that
-- account; 0 if it has none. An account that can be used now ends the search.
local function soonest(name, lane, when)
  local earliest, first
  for _, account in ipairs(lanes.is_own(lane) and {} or upstreams.accounts(name)) do
    local at = when(account, lanes.model(lane))
    if not earliest or at < earliest then earliest, first = at, account end
    if at <= clock.now then break end
  end
  return earliest or 0, first
end

-- True if another upstream takes jobs of a lane now, or when one of those that run there has ended.
function upstreams.has_another(lane, name)
  for _, other in ipairs(taking(lane)) do
    if other ~= name and soonest(other, lane, accounts.blocked_until) <= clock.now then return true end
  end
  return false
end

-- Upstreams that a forecast counts on: those that take jobs; if there are none, those that will, it is hoped.
local function expected(lane)
  local found = taking(lane)
  if #found == 0 then found = upstreams.live(lane) end
  if #found > 0 then return found end
  for _, name in ipairs(redis.call('SMEMBERS', keys.servers(lane))) do
    if upstreams.record(name) then found[#found + 1] = name end
  end
  return found
end

-- Number of an upstream's slots that are held by jobs of one sort, or of all.
function upstreams.running(name, sort)
  if sort then return redis.call('ZCARD', keys.leases(name, sort)) end
  local sum = 0
  for each in pairs(upstreams.record(name).reserves) do sum = sum + upstreams.running(name, each) end
  return sum
end

-- Jobs that the shared accounts of an upstream may hold at once; of one lane, if it is given.
local function of_accounts(name, lane)
  local sum = 0
  for _, account in ipairs(upstreams.accounts(name)) do
    sum = sum + accounts.usable(account, lane and lanes.model(lane))
  end
  return sum
end

-- Jobs that an upstream may run at once: its cap and, if all its accounts are shared, theirs, which sum up to `sum`.
function upstreams.cap(name, sum)
  local record = upstreams.record(name)
  if record.own then return record.cap end
  sum = sum or of_accounts(name)
  return record.cap > 0 and math.min(record.cap, sum) or sum
end

-- Slots of an upstream: limited by its cap, and by its live workers, if it has any.
function upstreams.slots(name)
  local cap, most = upstreams.cap(name), offered_to(name)
  return most > 0 and math.min(cap, most) or cap
end

-- Number of an upstream's slots that a sort may hold, whatever others want: a batch of embeddings never holds up
-- the first chat.
function upstreams.most(name, sort)
  if not LEAVES[sort] then return math.huge end
  local reserves = upstreams.record(name).reserves
  for other in pairs(reserves) do
    if other ~= sort then return math.max(reserves[sort], upstreams.cap(name) - LEAVES[sort]) end
  end
  return math.huge
end

-- Lanes that an upstream serves and that have jobs to be claimed, by sort.
function upstreams.ready(name)
  local found = {}
  for _, lane in ipairs(redis.call('SINTER', keys.ready, keys.serves(name))) do
    local sort = lanes.sort(lane)
    found[sort] = found[sort] or {}
    found[sort][#found[sort] + 1] = lane
  end
  return found
end

-- Slots of an upstream that a sort gets: at least its reserve, and what the others neither hold nor want.
local function sort_slots(name, sort, ready)
  local reserves, all, others, sum = upstreams.record(name).reserves, upstreams.slots(name), 0, 0
  for _, reserve in pairs(reserves) do sum = sum + reserve end
  for other, reserve in pairs(reserves) do
    if other ~= sort then
      local wanted = ready[other] and all * reserve / sum or 0
      others = others + math.max(wanted, upstreams.running(name, other))
    end
  end
  return math.min(math.max(all * reserves[sort] / sum, all - others), upstreams.most(name, sort))
end

-- A lane's part of the slots of its sort at an upstream: that of its waiting keys, at least one.
local function part(lane, ready)
  local own = math.max(1, redis.call('ZCARD', keys.backlog(lane)))
  local all = own
  for _, other in ipairs(ready[lanes.sort(lane)] or {}) do
    if other ~= lane then all = all + redis.call('ZCARD', keys.backlog(other)) end
  end
  return own / all
end

-- Slots of an upstream that are free now for a job of a lane.
local function free_slots(name, lane)
  local sort = lanes.sort(lane)
  local free = math.min(upstreams.slots(name) - upstreams.running(name),
    upstreams.most(name, sort) - upstreams.running(name, sort))
  if lanes.is_own(lane) then return free end
  local sum = 0
  for _, account in ipairs(upstreams.accounts(name)) do
    if accounts.blocked_until(account, lanes.model(lane)) <= clock.now then
      sum = sum + math.max(0, accounts.free(account))
    end
  end
  return math.min(free, sum)
end

-- Slots of an upstream that a lane gets.
local function slots_of(name, lane)
  local ready = upstreams.ready(name)
  local slots = sort_slots(name, lanes.sort(lane), ready)
  if upstreams.record(name).several then slots = slots * part(lane, ready) end
  return lanes.is_own(lane) and slots or math.min(slots, of_accounts(name, lane))
end

-- Slots of all upstreams that a lane gets, and those that are free now.
function upstreams.lane_slots(lane)
  local slots, free = 0, 0
  for _, name in ipairs(expected(lane)) do
    slots = slots + slots_of(name, lane)
    free = free + math.max(0, free_slots(name, lane))
  end
  return slots > 0 and slots or 1, free
end

-- The same among all upstreams of the lane.
local function soonest_of_all(lane, when)
  local earliest, first
  for _, name in ipairs(expected(lane)) do
    local at, account = soonest(name, lane, when)
    if not earliest or at < earliest then earliest, first = at, account end
  end
  return earliest or 0, first
end

-- Time (ms) until which no account can be used for a job; in the past, or 0, if one can.
function upstreams.blocked_until(job)
  if lanes.is_own(job.lane) then return accounts.blocked_until(job.key, job.family) end
  return soonest_of_all(job.lane, accounts.blocked_until)
end

-- Time (ms) until which operators have paused all that could run a job; in the past, or 0, if they have not.
function upstreams.paused_until(job)
  if not pauses.any() then return 0 end
  local earliest = math.huge
  for _, name in ipairs(expected(job.lane)) do
    local of_accounts = soonest(name, job.lane, accounts.paused_until)
    earliest = math.min(earliest, math.max(pauses.until_('upstream', name), of_accounts))
  end
  local own = lanes.is_own(job.lane) and accounts.paused_until(job.key) or 0
  return math.max(own, earliest < math.huge and earliest or 0)
end

-- Time (ms) until which each account that could run a job has used up its models, or is set aside; in the past, or
-- 0, if one is not. And true if the first one that can be used again is set aside.
function upstreams.spent_until(job)
  if lanes.is_own(job.lane) then return accounts.parked_until(job.key, job.family), false end
  local at, account = soonest_of_all(job.lane, accounts.spent_until)
  return at, account and accounts.parked_until(account, lanes.model(job.lane)) < at
end

-- Keys of the jobs of a lane that run, at most `most` of them; a key may come twice.
function upstreams.running_keys(lane, most)
  local found = {}
  for _, name in ipairs(expected(lane)) do
    for _, id in ipairs(redis.call('ZRANGE', keys.leases(name, lanes.sort(lane)), 0, most - 1 - #found)) do
      local key, its_lane = hash.get(keys.job(id), 'key', 'lane')
      if key and its_lane == lane then found[#found + 1] = key end
    end
    if #found >= most then break end
  end
  return found
end

-- True if another key waits for a slot like the one that a job of this lane holds at an upstream, or for its
-- seat in the queue, if it has no slot yet.
function upstreams.others_wait(name, lane, key)
  local record, waiting = name and upstreams.record(name), {lane}
  if record and record.several then waiting = upstreams.ready(name)[lanes.sort(lane)] or waiting end
  for _, each in ipairs(waiting) do
    local number = redis.call('ZCARD', keys.backlog(each))
    if number > 1 or number == 1 and not redis.call('ZSCORE', keys.backlog(each), key) then return true end
  end
  return false
end

-- Forget an upstream that no worker has described for some time, unless jobs still run there. True if it did.
function upstreams.forget(name)
  if redis.call('EXISTS', keys.upstream(name)) == 1 then return false end
  for _, lane in ipairs(redis.call('SMEMBERS', keys.serves(name))) do redis.call('SREM', keys.servers(lane), name) end
  redis.call('DEL', keys.serves(name), keys.accounts(name), keys.precedence(name))
  redis.call('SREM', keys.upstreams, name)
  return true
end

return upstreams

-- When will it be this job's turn? From moving averages of slot time, and the larger of two views:
-- its account's own line, and all that goes before it in its lane.

local MEMORY = 0.03                             -- weight of the newest sample, at least
local PRIOR = {chat = 15000, images = 45000}    -- ms, before anything is known
local HEAVIEST = 100                            -- keys that are looked at one by one

-- Learn how long a conversation held its slot.
local function learn(lane, family, took)
  for _, kind in ipairs({lane .. ' ' .. family, lane}) do
    local n, mean, square = fields(SERVICE, kind .. ' n', kind .. ' mean', kind .. ' square')
    n = tonumber(n or 0) + 1
    local weight = math.max(1 / n, MEMORY)
    mean = tonumber(mean or 0) * (1 - weight) + took * weight
    square = tonumber(square or 0) * (1 - weight) + took * took * weight
    redis.call('HSET', SERVICE, kind .. ' n', n, kind .. ' mean', mean, kind .. ' square', square)
  end
end

-- How long one holds its slot (ms, at least 1), and how much that varies: 0 (never) to 1.
local function service(lane, family)
  for _, kind in ipairs({family and lane .. ' ' .. family or lane, lane}) do
    local mean, square = fields(SERVICE, kind .. ' mean', kind .. ' square')
    if mean then
      mean = math.max(1, tonumber(mean))
      return mean, math.min(1, math.max(0, tonumber(square) / mean / mean - 1))
    end
  end
  return PRIOR[lane], 1
end

-- How many conversations the account may hold at the moment.
local function capacity(account)
  local cap, learned = fields(account_key(account), 'cap', 'learned')
  cap = tonumber(cap or 1)
  return math.max(1, math.min(cap, math.floor(tonumber(learned or cap))))
end

-- How many conversations the upstream is held to: by its cap, and by the workers there are.
local function slots(max_concurrency)
  local could = 0
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, now, '+inf')) do
    local described = redis.call('GET', worker_channel(worker))
    if described then could = could + cjson.decode(described).max_jobs end
  end
  return math.min(max_concurrency, could)
end

-- Of those, how many are for this lane while the others want theirs.
local function lane_slots(lane, all, reserves)
  local others, sum = 0, 0
  for name, reserve in pairs(reserves) do
    sum = sum + reserve
    if name ~= lane then others = others + redis.call('ZCARD', leases_key(name)) end
  end
  return math.max(1, all * reserves[lane] / sum, all - others)
end

-- Of other keys' waiting jobs, how many go before this key's job number `place` (0 is the next)?
-- As many of each as its share allows in the meantime.
local function others_before(lane, account, weight, place)
  local key = backlog_key(lane)
  local heavy = redis.call('ZREVRANGE', key, 0, HEAVIEST - 1, 'WITHSCORES')
  local before, seen = 0, 0
  for i = 1, #heavy, 2 do
    local other, backlog = heavy[i], tonumber(heavy[i + 1])
    seen = seen + backlog
    if other ~= account then
      local its = backlog > 0 and tonumber(redis.call('HGET', account_key(other), 'weight') or 1) or 1
      before = before + math.min(backlog, (place + 0.5) * its / weight)
    end
  end
  local lighter = redis.call('ZCARD', key) - #heavy / 2
  if lighter > 0 then
    local each = (redis.call('ZCARD', waiting_key(lane)) - seen) / lighter
    before = before + lighter * math.min(math.max(each, 0), place + 0.5)
  end
  return before
end

local function exactly(number) return string.format('%.17g', number) end

-- How many jobs of the account have seats, in the queue or running.
local function seats(account)
  return redis.call('SCARD', queued_key(account)) + redis.call('ZCARD', running_key(account))
end

-- Until when (ms) the account cannot be used for this family; the past, or 0, if it can.
local function put_off(account, family)
  return math.max(tonumber(redis.call('ZSCORE', LATER, 'account ' .. account) or 0),
    tonumber(redis.call('ZSCORE', LATER, 'family ' .. account .. ' ' .. family) or 0))
end

-- The account's jobs that go before this one of its own.
local function own_before(job)
  local own = redis.call('SCARD', queued_key(job.account))
  for _, family in ipairs(redis.call('SMEMBERS', lines_key(job.account))) do
    own = own + redis.call('ZCOUNT', line_key(job.account, family), '-inf', '(' .. exactly(job.line_tag))
  end
  return own
end

-- The tag that a job would have in the queue if it came now; nil if it gets no seat.
local function tag_at_once(job)
  if seats(job.account) >= capacity(job.account) or own_before(job) > 0
      or put_off(job.account, job.family) > now then
    return nil
  end
  return math.max(soonest(shares_key(job.lane), job.account),
    tonumber(redis.call('HGET', lane_key(job.lane), 'now') or 1))
end

-- The wait (ms) in an account's own line, `own` jobs behind: one conversation ends, then the next.
local function wait_in_line(job, own)
  local mean, varies = service(job.lane, job.family)
  local cap, held = capacity(job.account), redis.call('ZCARD', running_key(job.account))
  local turns = own + 1 - math.max(0, cap - held)
  local wait = 0
  if turns > 0 and held == 0 then
    wait = turns * mean / cap -- the first are about to begin
  elseif turns > 0 then
    local oldest = redis.call('ZRANGE', running_key(job.account), 0, 0, 'WITHSCORES')[2]
    local left = (1 - varies) * math.max(0, mean - (now - oldest)) + varies * mean / held
    wait = left + (turns - 1) * mean / cap
  end
  return math.max(wait, put_off(job.account, job.family) - now)
end

-- A waiting job's place in its lane, counted from 1, and the wait (ms) that it makes.
-- `tag`: its tag if it stands in the queue, else nil. `line_tag`: its tag among its key's users.
local function predict(job, limits)
  local lane, account = job.lane, job.account
  local mean, varies = service(lane, nil)
  local all = slots(limits.max_concurrency)
  local mine = lane_slots(lane, all, limits.reserves)
  local busy = 0
  for _, name in ipairs(LANES) do busy = busy + redis.call('ZCARD', leases_key(name)) end

  local before, own_wait = 0, 0
  local tag = job.tag or tag_at_once(job)
  if tag then
    before = redis.call('ZCOUNT', queue_key(lane), '-inf', (job.tag and '(' or '') .. exactly(tag))
  else
    local own = own_before(job)
    before = own + others_before(lane, account, job.weight, own)
    own_wait = wait_in_line(job, own)
  end

  local turns = before + 1 - math.max(0, all - busy)
  local wait = 0
  if turns > 0 then wait = (turns - 1 + (1 + varies) / 2) * mean / mine end
  return 1 + math.floor(before + 0.5), math.floor(math.max(wait, own_wait))
end

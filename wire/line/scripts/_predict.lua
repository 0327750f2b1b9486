-- When will it be this job's turn? The larger of two views: its account's own line, and all that
-- goes before it in its lane, now and until then. docs/line.md tells the reasons.
--
-- How long jobs take, whose backlog fills up again, and who comes meanwhile: all of that is learned,
-- as moving averages. Every loop here is bounded.

local PRIOR = {chat = 15000, images = 45000}    -- ms, before anything is known
local ENOUGH = 4                                -- conversations, to know anything
local HEAVIEST = 100                            -- keys, and users, that are looked at one by one
local MEMORY = 0.02                             -- weight of the newest length, at least
local REFILL_MEMORY = 0.1                       -- the same for whether a key's backlog fills up
local TRUST = 5                                 -- samples that what is known of all counts for
local RECENT = 10                               -- jobs' lengths, in virtual time, in which newcomers are counted
local FEW = 1000                                -- jobs after which they are forgotten, should it stand still

-- One more sample of a moving average, whose fields in a hash begin with `kind`.
local function sample(key, kind, value, memory)
  local n, mean, square = fields(key, kind .. ' n', kind .. ' mean', kind .. ' square')
  n = tonumber(n or 0) + 1
  local weight = math.max(1 / n, memory)
  mean = tonumber(mean or 0) * (1 - weight) + value * weight
  square = tonumber(square or 0) * (1 - weight) + value * value * weight
  redis.call('HSET', key, kind .. ' n', n, kind .. ' mean', mean, kind .. ' square', square)
end

-- Learn how long a conversation held its slot: for everybody, and for its key.
local function learn(lane, family, account, took)
  sample(SERVICE, lane .. ' ' .. family, took, MEMORY)
  sample(SERVICE, lane, took, MEMORY)
  sample(account_key(account), lane .. ' ' .. family, took, MEMORY)
end

-- Whether anything is known of how long that is.
local function has_learned(lane)
  return tonumber(redis.call('HGET', SERVICE, lane .. ' n') or 0) >= ENOUGH
end

-- Whether predictions rest on more than a guess. Those that were tagged when nothing was known may
-- have tags that are far too late or too early, until the last of them has begun.
local function is_known(lane)
  local oldest = redis.call('ZRANGE', waiting_key(lane), 0, 0)[1]
  return has_learned(lane) and not (oldest and redis.call('HEXISTS', job_key(oldest), 'guessed') == 1)
end

-- How long one holds its slot (ms, at least 1), and how much that varies: 0 (never) to 1. `account`:
-- what is known of it goes before what is known of all, the more the more it is.
local function service(lane, family, account)
  local known, varies = PRIOR[lane], 1
  for _, kind in ipairs({family and lane .. ' ' .. family or lane, lane}) do
    local mean, square = fields(SERVICE, kind .. ' mean', kind .. ' square')
    if mean then
      known = math.max(1, tonumber(mean))
      varies = math.min(1, math.max(0, tonumber(square) / known / known - 1))
      break
    end
  end
  if account then
    local kind = lane .. ' ' .. family
    local n, mean = fields(account_key(account), kind .. ' n', kind .. ' mean')
    n = tonumber(n or 0)
    if n > 0 then known = math.max(1, (n * mean + TRUST * known) / (n + TRUST)) end
  end
  return known, varies
end

-- A job arrives. Returns 1 if nothing of its key's waits, else 0.
local function note_arrival(lane, account)
  if not redis.call('ZSCORE', backlog_key(lane), account) then
    redis.call('HSET', account_key(account), 'alone', 1)
    return 1
  end
  redis.call('HSET', account_key(account), 'alone', 0)
  redis.call('HINCRBY', account_key(account), 'more', 1)
  return 0
end

-- A conversation ends: had another job joined the key's backlog since the last one?
local function note_refill(lane, account)
  local more = redis.call('HGET', account_key(account), 'more')
  redis.call('HSET', account_key(account), 'more', 0)
  if more then
    local refilled = math.min(1, tonumber(more))
    if redis.call('HEXISTS', account_key(account), 'ended') == 1 then
      sample(account_key(account), 'refill', refilled, REFILL_MEMORY)
      sample(SERVICE, lane .. ' refill', refilled, REFILL_MEMORY / 5)
    end
  end
  redis.call('HSET', account_key(account), 'ended', 1)
  redis.call('PEXPIRE', account_key(account), DAY) -- should it have been forgotten
end

-- Which part of what a backlog loses comes again, over all keys of the lane.
local function usual_refill(lane) return tonumber(redis.call('HGET', SERVICE, lane .. ' refill mean') or 0) end

-- Which part of what a key's backlog loses comes again while it lasts: 0 (it is all there is) to
-- nearly 1 (a program that sends the next one for each that is answered).
local function refill(all, n, mean)
  n = tonumber(n or 0)
  return math.min(0.99, ((n > 0 and n * mean or 0) + TRUST * all) / (n + TRUST))
end

-- How many conversations an account may hold at the moment, by these fields of its record.
local function lesser_cap(cap, learned)
  cap = tonumber(cap or 1)
  return math.max(1, math.min(cap, math.floor(tonumber(learned or cap))))
end

local function capacity(account) return lesser_cap(fields(account_key(account), 'cap', 'learned')) end

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

-- A job starts while others wait, and the lane's virtual clock moves on by `moved`. What counts as new:
-- a light key's job (it was `alone`), and a burst's, which is the part of a backlog that had not been
-- there before and is no program's refill.
local function note_start(lane, account, moved, cost, alone)
  if redis.call('ZCARD', waiting_key(lane)) == 0 then return end
  local light, burst, span = fields(lane_key(lane), 'light', 'burst', 'span')
  local n, refilled = fields(account_key(account), 'refill n', 'refill mean')
  local again = refill(usual_refill(lane), n, refilled)
  local keep = math.exp(-moved / (RECENT * cost) - 1 / FEW)
  redis.call('HSET', lane_key(lane),
    'light', tonumber(light or 0) * keep + (alone and cost or 0),
    'burst', tonumber(burst or 0) * keep + ((alone or again > 0.5) and 0 or cost * (1 - again)),
    'span', tonumber(span or 0) * keep + moved)
end

-- The slot time of jobs that are still to come and will go before the virtual moment that is `ahead`
-- of now, going by what came of late; `light` of it is here already.
local function newcomers(lane, ahead, light_here, mean)
  local light, burst, span = fields(lane_key(lane), 'light', 'burst', 'span')
  light, burst, span = tonumber(light or 0), tonumber(burst or 0), tonumber(span or 0) + mean / 2
  local size = light > 0 and burst / light * mean or 0
  local bursts = size > 0 and burst / span * ahead * ahead / (ahead + 2 * size) or 0
  return math.max(0, light / span * ahead - light_here) + bursts
end

local function exactly(number) return string.format('%.17g', number) end

-- Until when (ms) the account cannot be used for this family; the past, or 0, if it can.
local function put_off(account, family)
  return math.max(tonumber(redis.call('ZSCORE', LATER, 'account ' .. account) or 0),
    tonumber(redis.call('ZSCORE', LATER, 'family ' .. account .. ' ' .. family) or 0))
end

-- The account's jobs in its lines that go before this one: how many, and their slot time; with what
-- its other users will have sent by then. Then how many of them, and of how much, are of its lane.
local function own_before(job)
  local account, number, work, lane_number, lane_work = job.account, 0, 0, 0, 0
  for _, line in ipairs(redis.call('SMEMBERS', lines_key(account))) do
    local lane, family = string.match(line, '^(%S+) (%S+)$')
    local some = redis.call('ZCOUNT', line_key(account, lane, family), '-inf', '(' .. exactly(job.line_tag))
    local its_work = some > 0 and some * service(lane, family, account) or 0
    if lane == job.lane then
      lane_number, lane_work = lane_number + some, lane_work + its_work
    end
    number, work = number + some, work + its_work
  end
  local at, n, refilled = fields(account_key(account), 'now', 'refill n', 'refill mean')
  local mean = service(job.lane, job.family, account)
  at = tonumber(at or 1)
  local again = refill(usual_refill(job.lane), n, refilled)
  local users = redis.call('ZRANGEBYSCORE', users_key(account), '(' .. exactly(at),
    '(' .. exactly(job.line_tag), 'WITHSCORES', 'LIMIT', 0, HEAVIEST)
  local more = 0
  for i = 1, #users, 2 do
    local paid = tonumber(users[i + 1])
    -- `<user> last` is the tag of their last job, which is no flow.
    if users[i] ~= job.user and not string.find(users[i], ' last$') then
      more = more + math.min(again / (1 - again) * (paid - at), job.line_tag - paid + mean / 2)
    end
  end
  return number + more / mean, work + more, lane_number + more / mean, lane_work + more
end

-- The wait (ms) in an account's own line, `own` jobs (of so much slot time) behind: one conversation
-- ends, the next one's place in the queue comes up (`seat_wait`), and so on.
local function wait_in_line(job, own, work, seat_wait)
  local mean = service(job.lane, job.family, job.account)
  local cap, held = capacity(job.account), redis.call('ZCARD', running_key(job.account))
  local queued = redis.call('SCARD', queued_key(job.account))
  local turns = own + queued + 1 - math.max(0, cap - held)
  local wait = 0
  if turns > 0 and held == 0 then
    wait = turns * (mean + seat_wait) / cap -- the first are about to begin
  elseif turns > 0 then
    local oldest = redis.call('ZRANGE', running_key(job.account), 0, 0, 'WITHSCORES')
    local lane, family = fields(job_key(oldest[1]), 'lane', 'family')
    local length, varies = service(lane or job.lane, family or job.family, job.account)
    -- One that has taken longer than most may end at any moment, but has not.
    local left = (1 - varies) * math.max(length / 4, length - (now - oldest[2])) + varies * length / held
    local each = own > 0 and work / own or mean
    wait = left + (turns - 1) * (each + seat_wait) / cap + seat_wait
  end
  return math.max(wait, put_off(job.account, job.family) - now)
end

-- The slot time of other keys that will go before a job with this tag. First a list of what each
-- heavy key may add to what it has in the queue: until the tag, as much as its weight allows (it is
-- served job by job, which makes half a job more), but no more than it has. Then the sum of what
-- light keys, newcomers and all others will add.
local function rivals(job, tag, at, mean)
  local lane = job.lane
  local heavy = redis.call('ZREVRANGE', work_key(lane), 0, HEAVIEST - 1, 'WITHSCORES')
  local all = usual_refill(lane)
  local others, light_here, rest = {}, 0, redis.call('ZCARD', waiting_key(lane)) * mean
  for i = 1, #heavy, 2 do
    local other, work = heavy[i], math.max(0, tonumber(heavy[i + 1]))
    rest = rest - work
    if other ~= job.account then
      local weight, cap, learned, alone, n, refilled =
        fields(account_key(other), 'weight', 'cap', 'learned', 'alone', 'refill n', 'refill mean')
      local paid = math.max(at, tonumber(redis.call('ZSCORE', shares_key(lane), other) or 0))
      weight = tonumber(weight or 1)
      if alone == '1' then -- it has one job, which stands in the queue
        if paid - work / weight < tag then light_here = light_here + work end
      elseif paid < tag then
        local has = math.max(0, work / (1 - refill(all, n, refilled)) - mean)
        others[#others + 1] = {
          work = math.min(has, weight * (tag - paid) + mean / 2),
          cap = lesser_cap(cap, learned),
        }
      end
    end
  end
  local more = newcomers(lane, tag - at, light_here, mean)
  local lighter = redis.call('ZCARD', work_key(lane)) - #heavy / 2
  if lighter > 0 then more = more + lighter * math.min(math.max(0, rest / lighter - mean), tag - at) end
  return others, more
end

-- How much of that list goes before a job that waits so long (ms): no more than caps allow. `begins`:
-- what is left of a conversation.
local function within(others, wait, begins)
  local sum = 0
  for _, other in ipairs(others) do
    sum = sum + math.min(other.work, other.cap * math.max(0, wait - begins))
  end
  return sum
end

-- A waiting job's place in its lane, counted from 1, and the wait (ms) that it makes.
-- `tag`: its tag if it stands in the queue, else nil. `line_tag`: its tag among its key's users.
-- `promised`: it need not wait for what its key owes.
local function predict(job, limits)
  local lane, account = job.lane, job.account
  local mean, varies = service(lane)
  local all = slots(limits.max_concurrency)
  local mine = lane_slots(lane, all, limits.reserves)
  local busy = 0
  for _, name in ipairs(LANES) do busy = busy + redis.call('ZCARD', leases_key(name)) end
  local free = math.max(0, all - busy)
  local begins = (1 + varies) / 2 * mean -- what is left of a conversation that runs

  local at, newest = fields(lane_key(lane), 'now', 'newest')
  at, newest = tonumber(at or 1), tonumber(newest or 1)
  local tag, own, own_work, own_wait = job.tag, 0, 0, 0
  if not tag then -- the one it would have, were what goes before it of its own paid for now
    local all_own, all_work
    all_own, all_work, own, own_work = own_before(job)
    local paid = job.promised and at or soonest(shares_key(lane), account)
    tag = (paid > at and paid or math.max(at, newest)) + own_work / job.weight
    local ahead = free > 0 and 0 or redis.call('ZCOUNT', queue_key(lane), '-inf', exactly(newest))
    own_wait = wait_in_line(job, all_own, all_work, ahead * mean / mine)
    if capacity(account) == 1 then -- its only seat may be that of one which waits in another lane's queue
      for _, id in ipairs(redis.call('SMEMBERS', queued_key(account))) do
        local its_lane, family, its_tag = fields(job_key(id), 'lane', 'family', 'tag')
        if its_lane and its_lane ~= lane then
          local first = {lane = its_lane, account = account, tag = tonumber(its_tag)}
          local _, its_wait = predict(first, limits)
          own_wait = math.max(own_wait, its_wait + service(its_lane, family, account))
        end
      end
    end
  end

  local queued = redis.call('ZCOUNT', queue_key(lane), '-inf', (job.tag and '(' or '') .. exactly(tag))
  local others, more = rivals(job, tag, at, mean)
  local sure = queued * mean + own_work + more
  local wait = (sure + within(others, math.huge, 0)) / mine
  for _ = 1, 3 do wait = (sure + within(others, wait, begins)) / mine end -- the shorter, the less goes before
  local before = queued + own + (wait * mine - sure) / mean
  if before + 1 > free then wait = math.max(0, wait + (begins - free * mean) / mine) else wait = 0 end
  return 1 + math.floor(before + 0.5), math.floor(math.max(wait, own_wait))
end

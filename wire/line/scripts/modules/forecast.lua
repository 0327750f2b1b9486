-- needs: caps, clock, durations, fairness, hash, keys, vocabulary
-- Forecast of a waiting job's place and wait. The wait is the longer of two: the wait in its account's
-- own line, and the wait for all work that goes before it in its lane, now and until its turn.
-- docs/line.md gives the reasons.
--
-- The lengths of jobs, the backlogs that fill up again and the rate of new arrivals are learned, as
-- moving averages. Every loop here is bounded.
local forecast = {}

local PRIOR = {chat = 15000, images = 45000}    -- ms, before anything is known
local ENOUGH = 4                                -- conversations, to know anything
local HEAVIEST = 100                            -- keys, and users, that are looked at one by one
local MEMORY = 0.02                             -- least weight of the newest length
local REFILL_MEMORY = 0.1                       -- the same for the refilling of a key's backlog
local TRUST = 5                                 -- samples for which the average of all keys counts
local RECENT = 10                               -- jobs' lengths, in virtual time, in which newcomers are counted
local FEW = 1000                                -- jobs after which they are forgotten, even if virtual time does not move

-- Add a sample to a moving average, whose fields in a hash begin with `kind`.
local function sample(key, kind, value, memory)
  local n, mean, square = hash.get(key, kind .. ' n', kind .. ' mean', kind .. ' square')
  n = tonumber(n or 0) + 1
  local weight = math.max(1 / n, memory)
  mean = tonumber(mean or 0) * (1 - weight) + value * weight
  square = tonumber(square or 0) * (1 - weight) + value * value * weight
  redis.call('HSET', key, kind .. ' n', n, kind .. ' mean', mean, kind .. ' square', square)
end

-- Learn the time for which a conversation held its slot: for all keys, and for its own.
function forecast.learn(lane, family, account, took)
  sample(keys.service, lane .. ' ' .. family, took, MEMORY)
  sample(keys.service, lane, took, MEMORY)
  sample(keys.account(account), lane .. ' ' .. family, took, MEMORY)
end

-- True if that time is known well enough.
function forecast.has_learned(lane)
  return tonumber(redis.call('HGET', keys.service, lane .. ' n') or 0) >= ENOUGH
end

-- True if forecasts are more than a guess. Jobs that were tagged before anything was known may have
-- tags that are far too late or too early, so forecasts remain a guess until the last of them begins.
function forecast.is_known(lane)
  local oldest = redis.call('ZRANGE', keys.waiting(lane), 0, 0)[1]
  return forecast.has_learned(lane) and not (oldest and redis.call('HEXISTS', keys.job(oldest), 'guessed') == 1)
end

-- Expected slot time of a conversation (ms, at least 1), and how much it varies, from 0 (not at all)
-- to 1. With an `account`, its own average counts more than that of all keys, the more samples it has.
function forecast.service(lane, family, account)
  local known, varies = PRIOR[lane], 1
  for _, kind in ipairs({family and lane .. ' ' .. family or lane, lane}) do
    local mean, square = hash.get(keys.service, kind .. ' mean', kind .. ' square')
    if mean then
      known = math.max(1, tonumber(mean))
      varies = math.min(1, math.max(0, tonumber(square) / known / known - 1))
      break
    end
  end
  if account then
    local kind = lane .. ' ' .. family
    local n, mean = hash.get(keys.account(account), kind .. ' n', kind .. ' mean')
    n = tonumber(n or 0)
    if n > 0 then known = math.max(1, (n * mean + TRUST * known) / (n + TRUST)) end
  end
  return known, varies
end

-- Record the arrival of a job. Returns 1 if no other job of its key is waiting, else 0.
function forecast.note_arrival(lane, account)
  if not redis.call('ZSCORE', keys.backlog(lane), account) then
    redis.call('HSET', keys.account(account), 'alone', 1)
    return 1
  end
  redis.call('HSET', keys.account(account), 'alone', 0)
  redis.call('HINCRBY', keys.account(account), 'more', 1)
  return 0
end

-- Record the end of a conversation: had another job joined the key's backlog since the last end?
function forecast.note_refill(lane, account)
  local more = redis.call('HGET', keys.account(account), 'more')
  redis.call('HSET', keys.account(account), 'more', 0)
  if more then
    local refilled = math.min(1, tonumber(more))
    if redis.call('HEXISTS', keys.account(account), 'ended') == 1 then
      sample(keys.account(account), 'refill', refilled, REFILL_MEMORY)
      sample(keys.service, lane .. ' refill', refilled, REFILL_MEMORY / 5)
    end
  end
  redis.call('HSET', keys.account(account), 'ended', 1)
  redis.call('PEXPIRE', keys.account(account), durations.DAY) -- the record may have expired before
end

-- Fraction of a backlog's departures that are replaced by new arrivals, over all keys of the lane.
local function usual_refill(lane) return tonumber(redis.call('HGET', keys.service, lane .. ' refill mean') or 0) end

-- The same for one key while its backlog lasts: from 0 (no more will arrive) to nearly 1 (a program
-- that sends the next request for each that is answered).
local function refill(all, n, mean)
  n = tonumber(n or 0)
  return math.min(0.99, ((n > 0 and n * mean or 0) + TRUST * all) / (n + TRUST))
end

-- Record the start of a job while others wait; the lane's virtual clock moves by `moved`. Two kinds of
-- arrivals are new: a light key's job (it was `alone`), and a burst, which is the part of a backlog that
-- was not there before and is not a program's refill.
function forecast.note_start(lane, account, moved, cost, alone)
  if redis.call('ZCARD', keys.waiting(lane)) == 0 then return end
  local light, burst, span = hash.get(keys.lane(lane), 'light', 'burst', 'span')
  local n, refilled = hash.get(keys.account(account), 'refill n', 'refill mean')
  local again = refill(usual_refill(lane), n, refilled)
  local keep = math.exp(-moved / (RECENT * cost) - 1 / FEW)
  redis.call('HSET', keys.lane(lane),
    'light', tonumber(light or 0) * keep + (alone and cost or 0),
    'burst', tonumber(burst or 0) * keep + ((alone or again > 0.5) and 0 or cost * (1 - again)),
    'span', tonumber(span or 0) * keep + moved)
end

-- Slot time of the jobs that will still arrive and go before the virtual time `ahead` from now, by the
-- rate of recent arrivals; `light_here` of it is waiting already.
local function newcomers(lane, ahead, light_here, mean)
  local light, burst, span = hash.get(keys.lane(lane), 'light', 'burst', 'span')
  light, burst, span = tonumber(light or 0), tonumber(burst or 0), tonumber(span or 0) + mean / 2
  local size = light > 0 and burst / light * mean or 0
  local bursts = size > 0 and burst / span * ahead * ahead / (ahead + 2 * size) or 0
  return math.max(0, light / span * ahead - light_here) + bursts
end

local function exactly(number) return string.format('%.17g', number) end

-- Time (ms) until which the account cannot be used for this family; in the past, or 0, if it can.
local function blocked_until(account, family)
  return math.max(tonumber(redis.call('ZSCORE', keys.later, 'account ' .. account) or 0),
    tonumber(redis.call('ZSCORE', keys.later, 'family ' .. account .. ' ' .. family) or 0))
end

-- Number and slot time of the account's jobs in its lines that go before this one, with those that its
-- other users will have sent by then. Then the same for jobs of its lane alone.
local function own_before(job)
  local account, number, work, lane_number, lane_work = job.account, 0, 0, 0, 0
  for _, line in ipairs(redis.call('SMEMBERS', keys.lines(account))) do
    local lane, family = string.match(line, '^(%S+) (%S+)$')
    local some = redis.call('ZCOUNT', keys.line(account, lane, family), '-inf', '(' .. exactly(job.line_tag))
    local its_work = some > 0 and some * forecast.service(lane, family, account) or 0
    if lane == job.lane then
      lane_number, lane_work = lane_number + some, lane_work + its_work
    end
    number, work = number + some, work + its_work
  end
  local at, n, refilled = hash.get(keys.account(account), 'now', 'refill n', 'refill mean')
  local mean = forecast.service(job.lane, job.family, account)
  at = tonumber(at or 1)
  local again = refill(usual_refill(job.lane), n, refilled)
  local users = redis.call('ZRANGEBYSCORE', keys.users(account), '(' .. exactly(at),
    '(' .. exactly(job.line_tag), 'WITHSCORES', 'LIMIT', 0, HEAVIEST)
  local more = 0
  for i = 1, #users, 2 do
    local paid = tonumber(users[i + 1])
    -- `<user> last` is the tag of their last job, not a flow.
    if users[i] ~= job.user and not string.find(users[i], ' last$') then
      more = more + math.min(again / (1 - again) * (paid - at), job.line_tag - paid + mean / 2)
    end
  end
  return number + more / mean, work + more, lane_number + more / mean, lane_work + more
end

-- Wait (ms) in an account's own line, behind `own` jobs with `work` slot time: one conversation ends,
-- the next job waits in the queue (`seat_wait`), and so on.
local function wait_in_line(job, own, work, seat_wait)
  local mean = forecast.service(job.lane, job.family, job.account)
  local cap, held = caps.of(job.account), redis.call('ZCARD', keys.running(job.account))
  local queued = redis.call('SCARD', keys.queued(job.account))
  local turns = own + queued + 1 - math.max(0, cap - held)
  local wait = 0
  if turns > 0 and held == 0 then
    wait = turns * (mean + seat_wait) / cap -- the first are about to begin
  elseif turns > 0 then
    local oldest = redis.call('ZRANGE', keys.running(job.account), 0, 0, 'WITHSCORES')
    local lane, family = hash.get(keys.job(oldest[1]), 'lane', 'family')
    local length, varies = forecast.service(lane or job.lane, family or job.family, job.account)
    -- A conversation that has taken longer than most may end at any time, but has not yet.
    local left = (1 - varies) * math.max(length / 4, length - (clock.now - oldest[2])) + varies * length / held
    local each = own > 0 and work / own or mean
    wait = left + (turns - 1) * (each + seat_wait) / cap + seat_wait
  end
  return math.max(wait, blocked_until(job.account, job.family) - clock.now)
end

-- Slot time of other keys that will go before a job with this tag. First a list of what each heavy key
-- may add to its job in the queue: until the tag, as much as its weight allows (it is served job by job,
-- which makes half a job more), but no more than it has. Then the sum that light keys, new arrivals and
-- all others will add.
local function rivals(job, tag, at, mean)
  local lane = job.lane
  local heavy = redis.call('ZREVRANGE', keys.work(lane), 0, HEAVIEST - 1, 'WITHSCORES')
  local all = usual_refill(lane)
  local others, light_here, rest = {}, 0, redis.call('ZCARD', keys.waiting(lane)) * mean
  for i = 1, #heavy, 2 do
    local other, work = heavy[i], math.max(0, tonumber(heavy[i + 1]))
    rest = rest - work
    if other ~= job.account then
      local weight, cap, learned, alone, n, refilled =
        hash.get(keys.account(other), 'weight', 'cap', 'learned', 'alone', 'refill n', 'refill mean')
      local paid = math.max(at, tonumber(redis.call('ZSCORE', keys.shares(lane), other) or 0))
      weight = tonumber(weight or 1)
      if alone == '1' then -- it has one job, which is in the queue
        if paid - work / weight < tag then light_here = light_here + work end
      elseif paid < tag then
        local has = math.max(0, work / (1 - refill(all, n, refilled)) - mean)
        others[#others + 1] = {
          work = math.min(has, weight * (tag - paid) + mean / 2),
          cap = caps.lesser(cap, learned),
        }
      end
    end
  end
  local more = newcomers(lane, tag - at, light_here, mean)
  local lighter = redis.call('ZCARD', keys.work(lane)) - #heavy / 2
  if lighter > 0 then more = more + lighter * math.min(math.max(0, rest / lighter - mean), tag - at) end
  return others, more
end

-- Slot time of that list that goes before a job with this wait (ms): no more than caps allow. `begins`:
-- remaining time of a running conversation.
local function within(others, wait, begins)
  local sum = 0
  for _, other in ipairs(others) do
    sum = sum + math.min(other.work, other.cap * math.max(0, wait - begins))
  end
  return sum
end

-- A waiting job's place in its lane, counted from 1, and its wait (ms). Fields of the job: `tag`, its
-- tag if it is in the queue, else nil; `line_tag`, its tag among its key's users; `promised`, if it does
-- not wait until its key has paid.
function forecast.wait(job, limits)
  local lane, account = job.lane, job.account
  local mean, varies = forecast.service(lane)
  local all = caps.slots(limits.max_concurrency)
  local mine = caps.lane_slots(lane, all, limits.reserves)
  local busy = 0
  for _, name in ipairs(vocabulary.lanes) do busy = busy + redis.call('ZCARD', keys.leases(name)) end
  local free = math.max(0, all - busy)
  local begins = (1 + varies) / 2 * mean -- remaining time of a running conversation

  local at, newest = hash.get(keys.lane(lane), 'now', 'newest')
  at, newest = tonumber(at or 1), tonumber(newest or 1)
  local tag, own, own_work, own_wait = job.tag, 0, 0, 0
  if not tag then -- the tag it would get if the jobs of its key before it were paid for now
    local all_own, all_work
    all_own, all_work, own, own_work = own_before(job)
    local paid = job.promised and at or fairness.earliest(keys.shares(lane), account)
    tag = (paid > at and paid or math.max(at, newest)) + own_work / job.weight
    local ahead = free > 0 and 0 or redis.call('ZCOUNT', keys.queue(lane), '-inf', exactly(newest))
    own_wait = wait_in_line(job, all_own, all_work, ahead * mean / mine)
    if caps.of(account) == 1 then -- a job in another lane's queue may have its only seat
      for _, id in ipairs(redis.call('SMEMBERS', keys.queued(account))) do
        local its_lane, family, its_tag = hash.get(keys.job(id), 'lane', 'family', 'tag')
        if its_lane and its_lane ~= lane then
          local first = {lane = its_lane, account = account, tag = tonumber(its_tag)}
          local _, its_wait = forecast.wait(first, limits)
          own_wait = math.max(own_wait, its_wait + forecast.service(its_lane, family, account))
        end
      end
    end
  end

  local queued = redis.call('ZCOUNT', keys.queue(lane), '-inf', (job.tag and '(' or '') .. exactly(tag))
  local others, more = rivals(job, tag, at, mean)
  local sure = queued * mean + own_work + more
  local wait = (sure + within(others, math.huge, 0)) / mine
  for _ = 1, 3 do wait = (sure + within(others, wait, begins)) / mine end -- the shorter the wait, the less goes before
  local before = queued + own + (wait * mine - sure) / mean
  if before + 1 > free then wait = math.max(0, wait + (begins - free * mean) / mine) else wait = 0 end
  return 1 + math.floor(before + 0.5), math.floor(math.max(wait, own_wait))
end

return forecast

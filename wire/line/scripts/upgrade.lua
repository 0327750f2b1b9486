-- needs: durations, fairness, hash, keys, queue, vocabulary
-- Convert what an older release wrote; note the version of the data. ARGV: the version of this release.
-- Returns the version of the data, which may be another one.
--
-- Version 3: nothing was counted as usage. Its jobs run as before, and are not counted.
--
-- Version 2: a key and its account had one record, and all jobs ran at one upstream.
--
-- Release 436ec32 and older have no version. Users' tags were ms of slot time and are jobs now. The waiting
-- and running jobs of a key get new tags in their old order; their users' debts for finished jobs are
-- dropped. Tags among keys, and the clocks of the lanes, are ms in both; the debts of keys are dropped, too.
-- Keys that have service times of their own have had an answer.
local version = ARGV[1]

local found = redis.call('GET', keys.version)
if found and found ~= '2' and found ~= '3' then return tonumber(found) end
redis.call('SET', keys.version, version)
if found == '3' then return tonumber(version) end

local MAIN = 'main' -- the only upstream of an older release
local STEP = 0.001  -- as in `fairness`
local OLD_FIELDS = {
  job = {'cost', 'alone', 'guessed'},
  key = {'now', 'newest', 'alone', 'more', 'ended', 'refill n', 'refill mean', 'refill square'},
  lane = {'light', 'burst', 'span'},
}

-- Call a function with the name of each key of the line, its kind and the rest of its name. Some may come twice.
local function each(convert)
  local cursor = '0'
  repeat
    local step = redis.call('SCAN', cursor, 'MATCH', 'gateway:*', 'COUNT', 1000)
    cursor = step[1]
    for _, name in ipairs(step[2]) do convert(name, string.match(name, '^gateway:(%a+):(.*)$')) end
  until cursor == '0'
end

-- Divide the record of a key and its account.
local function divide(name, key)
  if redis.call('EXISTS', keys.key(key)) == 1 then return end -- this is the new record of the account
  redis.call('RENAME', name, keys.key(key))
  for _, field in ipairs({'cap', 'learned', 'rest'}) do
    local value = redis.call('HGET', keys.key(key), field)
    if value then redis.call('HSET', name, field, value) end
    redis.call('HDEL', keys.key(key), field)
  end
  local left = redis.call('PTTL', keys.key(key))
  if left > 0 then redis.call('PEXPIRE', name, left) end
end

-- Note the key and the account of a job, and the upstream at which it runs; count it where it waits.
local function note_key(name, id)
  local state, lane, account = hash.get(name, 'state', 'lane', 'account')
  if not account or redis.call('HSETNX', name, 'key', account) == 0 then return end
  if state == 'running' then
    redis.call('HSET', name, 'upstream', MAIN)
    redis.call('SADD', keys.holds(account), id)
  elseif state == 'waiting' then
    redis.call('ZINCRBY', keys.waits(account), 1, lane)
    redis.call('PEXPIRE', keys.waits(account), durations.DAY)
  end
end

each(function(name, kind, rest)
  if kind == 'account' then
    divide(name, rest)
  elseif kind == 'job' then
    note_key(name, rest)
  elseif kind == 'leases' and not string.find(rest, ':') then
    redis.call('RENAME', name, keys.leases(MAIN, rest))
    redis.call('SADD', keys.upstreams, MAIN)
  end
end)
if redis.call('EXISTS', 'gateway:breaker') == 1 then redis.call('RENAME', 'gateway:breaker', keys.breaker(MAIN)) end
for _, lane in ipairs(vocabulary.sorts) do
  if redis.call('EXISTS', keys.queue(lane)) == 1 then redis.call('SADD', keys.ready, lane) end
  local had = redis.call('HGET', keys.lane(lane), 'had')
  if had then redis.call('HSET', keys.precedence(MAIN), 'had ' .. lane, had) end
  redis.call('HDEL', keys.lane(lane), 'had')
end

-- Tags of the jobs of a key that have not finished, by their ids.
local function tag_again(key, unfinished)
  local ordered = {}
  for _, job in pairs(unfinished) do ordered[#ordered + 1] = job end
  table.sort(ordered, function(a, b)
    if a.old ~= b.old then return a.old < b.old end
    return a.id < b.id
  end)

  -- A job's tag: when its user's jobs before it are paid for, and after that of the job before it.
  local now, newest, before, paid = 1, 1, 1 - STEP, {}
  for _, job in ipairs(ordered) do
    local first = not paid[job.user]
    local tag = math.max(paid[job.user] or 1, before + STEP)
    before, paid[job.user] = tag, tag + job.price
    if first then newest = tag end -- users that come now go after those that wait
    redis.call('HSET', keys.job(job.id), 'line_tag', tag + job.band)
    redis.call('ZADD', job.line, 'XX', tag + job.band, job.id)
    redis.call('ZADD', keys.users(key), paid[job.user], job.user, tag, job.user .. ' last')
    if redis.call('SISMEMBER', keys.queued(key), job.id) == 1
      or redis.call('ZSCORE', keys.running(key), job.id) then
      now = tag -- as when it got its seat
      fairness.hold(job.lane, key, job.family, 1)
    end
  end
  redis.call('HSET', keys.key(key), 'now', now, 'newest', newest)
  redis.call('PEXPIRE', keys.key(key), durations.DAY)
  redis.call('PEXPIRE', keys.users(key), durations.DAY)
end

if not found then
  for _, lane in ipairs(vocabulary.sorts) do
    for _, field in ipairs({'n', 'mean', 'square'}) do redis.call('HDEL', keys.service, lane .. ' refill ' .. field) end
  end
  local unfinished = {}
  each(function(name, kind, rest)
    if kind == 'users' or kind == 'held' or kind == 'work' or kind == 'shares' then
      redis.call('DEL', name)
    elseif OLD_FIELDS[kind] then
      redis.call('HDEL', name, unpack(OLD_FIELDS[kind]))
    end
    if kind == 'key' then
      for _, field in ipairs(redis.call('HKEYS', name)) do
        if string.find(field, ' n$') then redis.call('HSET', name, 'answered', 1) end
      end
    elseif kind == 'job' then
      local state, key, user, tier, line_tag, band, lane, family =
        hash.get(name, 'state', 'key', 'user', 'tier', 'line_tag', 'band', 'lane', 'family')
      if line_tag and (state == 'waiting' or state == 'running') then
        unfinished[key] = unfinished[key] or {}
        unfinished[key][rest] = {id = rest, user = user, price = 1 / tier, old = line_tag - band, band = tonumber(band),
          line = keys.line(key, lane, family), lane = lane, family = family}
      end
    end
  end)
  for key, its_jobs in pairs(unfinished) do tag_again(key, its_jobs) end
  for _, lane in ipairs(vocabulary.sorts) do queue.mend(lane) end
end
return tonumber(version)

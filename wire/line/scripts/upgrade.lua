-- needs: durations, fairness, hash, keys, queue, vocabulary
-- Convert what release 436ec32 and older wrote, which has no version; note the version of the data.
-- ARGV: the version of this release. Returns the version of the data, which may be another one.
--
-- Users' tags were ms of slot time and are jobs now. The waiting and running jobs of an account get new
-- tags in their old order; their users' debts for finished jobs are dropped. Tags among keys, and the
-- clocks of the lanes, are ms in both; keys' debts are dropped, too. Keys whose service times are known
-- have had an answer.
local version = ARGV[1]

local found = redis.call('GET', keys.version)
if found then return tonumber(found) end
redis.call('SET', keys.version, version)

local STEP = 0.001 -- as in `fairness`
local OLD_FIELDS = {
  job = {'cost', 'alone', 'guessed'},
  account = {'now', 'newest', 'alone', 'more', 'ended', 'refill n', 'refill mean', 'refill square'},
  lane = {'light', 'burst', 'span'},
}

for _, lane in ipairs(vocabulary.lanes) do
  for _, field in ipairs({'n', 'mean', 'square'}) do redis.call('HDEL', keys.service, lane .. ' refill ' .. field) end
end

-- One pass over all keys: old fields are removed, and the jobs that have not finished are collected.
local unfinished = {}
local cursor = '0'
repeat
  local step = redis.call('SCAN', cursor, 'MATCH', 'gateway:*', 'COUNT', 1000)
  cursor = step[1]
  for _, key in ipairs(step[2]) do
    local kind, name = string.match(key, '^gateway:(%a+):(.*)$')
    if kind == 'users' or kind == 'held' or kind == 'work' or kind == 'shares' then
      redis.call('DEL', key)
    elseif OLD_FIELDS[kind] then
      redis.call('HDEL', key, unpack(OLD_FIELDS[kind]))
    end
    if kind == 'account' then
      for _, field in ipairs(redis.call('HKEYS', key)) do
        if string.find(field, ' n$') then redis.call('HSET', key, 'answered', 1) end
      end
    elseif kind == 'job' then
      local state, account, user, tier, line_tag, band, lane, family =
        hash.get(key, 'state', 'account', 'user', 'tier', 'line_tag', 'band', 'lane', 'family')
      if line_tag and (state == 'waiting' or state == 'running') then
        local jobs = unfinished[account] or {}
        unfinished[account] = jobs
        jobs[name] = {id = name, user = user, price = 1 / tier, old = line_tag - band, band = tonumber(band),
          line = keys.line(account, lane, family), lane = lane, family = family} -- by id: SCAN may repeat one
      end
    end
  end
until cursor == '0'

for account, jobs in pairs(unfinished) do
  local ordered = {}
  for _, job in pairs(jobs) do ordered[#ordered + 1] = job end
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
    redis.call('ZADD', keys.users(account), paid[job.user], job.user, tag, job.user .. ' last')
    if redis.call('SISMEMBER', keys.queued(account), job.id) == 1
      or redis.call('ZSCORE', keys.running(account), job.id) then
      now = tag -- as when it got its seat
      fairness.hold(job.lane, account, job.family, 1)
    end
  end
  redis.call('HSET', keys.account(account), 'now', now, 'newest', newest)
  redis.call('PEXPIRE', keys.account(account), durations.DAY)
  redis.call('PEXPIRE', keys.users(account), durations.DAY)
end
for _, lane in ipairs(vocabulary.lanes) do queue.sort(lane) end
return tonumber(version)

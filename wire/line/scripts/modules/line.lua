-- needs: caps, channels, fairness, hash, keys, queue, vocabulary
-- Places of waiting jobs. A waiting job is in exactly one place:
--   line:<account>:<lane>:<family>  its account has no free seat, is cooling down, or is parked for
--                            this family; ordered by fair shares among the key's users
--   later                    it is tried again at a later time (the upstream failed before it answered)
--   the queue                arq's sorted set, one per lane, ordered by fair shares among keys;
--                            every job in it may be claimed now, lowest score first
-- A job in the queue, or running, occupies one of its account's seats. So a full account blocks no
-- other, and claiming never has to look past the head of a queue.
local line = {}

local CORRECTED = 1000 -- jobs in a queue whose tags are corrected

-- Count a waiting job, by lane and by key.
function line.count_in(id, lane, account, deadline)
  if redis.call('ZADD', keys.waiting(lane), deadline, id) == 1 then
    redis.call('ZINCRBY', keys.backlog(lane), 1, account)
  end
end

function line.count_out(id, lane, account)
  if redis.call('ZREM', keys.waiting(lane), id) == 0 then return end
  if tonumber(redis.call('ZINCRBY', keys.backlog(lane), -1, account)) <= 0 then
    redis.call('ZREM', keys.backlog(lane), account)
  end
end

-- Count the slot time (ms) that a lane has had while another lane waited.
function line.count_slot_time(lane, took)
  for _, other in ipairs(vocabulary.lanes) do
    if other ~= lane and not queue.is_empty(other) then
      redis.call('HINCRBYFLOAT', keys.lane(lane), 'had', took)
      return
    end
  end
end

local function is_parked(account, family)
  return redis.call('ZSCORE', keys.later, 'family ' .. account .. ' ' .. family)
end

-- The account's first waiting job among its users, but not in one of the lanes in `taken`: lane,
-- family, id, tag; or nil.
local function head(account, taken)
  local lane, family, id, tag
  for _, its_line in ipairs(redis.call('SMEMBERS', keys.lines(account))) do
    local its_lane, its_family = string.match(its_line, '^(%S+) (%S+)$')
    local first = redis.call('ZRANGE', keys.line(account, its_lane, its_family), 0, 0, 'WITHSCORES')
    if #first == 0 then
      redis.call('SREM', keys.lines(account), its_line)
    elseif not taken[its_lane] and not is_parked(account, its_family) and (not tag or tonumber(first[2]) < tag) then
      lane, family, id, tag = its_lane, its_family, first[1], tonumber(first[2])
    end
  end
  return lane, family, id, tag
end

-- Give the account's free seats to its first jobs: one in each lane's queue at a time, so that a new
-- job, also of another user of the key, has at most that one before it. Returns those that are in the
-- queues, by lane, or nil if the account is cooling down.
function line.fill_seats(account)
  if redis.call('ZSCORE', keys.later, 'account ' .. account) then return end
  local queued, running = keys.queued(account), keys.running(account)
  local cap = caps.of(account)
  local taken = {} -- lanes in whose queue the account has a job
  -- Release the seats of jobs whose record was evicted, or expired while no role was running.
  for _, id in ipairs(redis.call('SMEMBERS', queued)) do
    local lane = redis.call('HGET', keys.job(id), 'lane')
    if lane then taken[lane] = id else redis.call('SREM', queued, id) end
  end
  if redis.call('SCARD', queued) + redis.call('ZCARD', running) >= cap then
    for _, id in ipairs(redis.call('ZRANGE', running, 0, -1)) do
      if redis.call('EXISTS', keys.job(id)) == 0 then redis.call('ZREM', running, id) end
    end
  end
  local free = cap - redis.call('SCARD', queued) - redis.call('ZCARD', running)
  while free > 0 do
    local lane, family, id, line_tag = head(account, taken)
    if not id then break end
    local state, tag, band, promised = hash.get(keys.job(id), 'state', 'tag', 'band', 'promised')
    redis.call('ZREM', keys.line(account, lane, family), id)
    if state then
      fairness.users_start(account, line_tag - band)
      if tag then
        tag = fairness.old_tag(lane, account, family, tonumber(tag))
      else
        tag = fairness.next_tag(lane, account, family, promised)
      end
      redis.call('HSET', keys.job(id), 'tag', tag)
      redis.call('SADD', queued, id)
      queue.add(lane, account, id, tag)
      channels.nudge()
      taken[lane] = id
      free = free - 1
    end
  end
  return taken
end

-- Correct the tags of the jobs in a lane's queue, which followed from a guess of the service time.
function line.correct_tags(lane)
  for _, id in ipairs(redis.call('ZRANGE', keys.queue(lane), 0, CORRECTED - 1)) do
    local account = redis.call('HGET', keys.job(id), 'account')
    if account then fairness.advance_tag(id, lane, account) end
  end
end

-- Put a job into its account's line, at the place it has had from the start.
function line.insert(id, lane, account, family, line_tag)
  redis.call('SADD', keys.lines(account), lane .. ' ' .. family)
  redis.call('ZADD', keys.line(account, lane, family), line_tag, id)
end

-- Remove a job from the place where it waits or runs. True if it held a seat.
function line.remove(id, lane, account, family)
  if redis.call('ZREM', keys.line(account, lane, family), id) == 1 then return false end
  if redis.call('ZREM', keys.later, 'job ' .. id) == 1 then return false end
  redis.call('ZREM', keys.leases(lane), id)
  queue.remove(lane, id)
  return redis.call('SREM', keys.queued(account), id) + redis.call('ZREM', keys.running(account), id) > 0
end

-- Move the account's jobs from the queues back into its lines: it is cooling down, or may hold fewer.
-- `family`: only jobs of this one.
function line.unseat(account, family)
  for _, id in ipairs(redis.call('SMEMBERS', keys.queued(account))) do
    local lane, its_family, line_tag = hash.get(keys.job(id), 'lane', 'family', 'line_tag')
    if lane and (not family or family == its_family) then
      queue.remove(lane, id)
      redis.call('SREM', keys.queued(account), id)
      fairness.hold(lane, account, its_family, -1)
      line.insert(id, lane, account, its_family, line_tag)
    end
  end
end

-- Block an account until a time (ms): its jobs wait in its lines.
function line.block_account(account, until_)
  redis.call('ZADD', keys.later, until_, 'account ' .. account)
end

-- Block one family of models for an account until a time (ms).
function line.block_family(account, family, until_)
  redis.call('ZADD', keys.later, until_, 'family ' .. account .. ' ' .. family)
end

return line

-- needs: accounts, channels, durations, fairness, hash, keys, lanes, leases, pauses, queue
-- Places of waiting jobs. A waiting job is in exactly one place:
--   line:<key>:<lane>:<family>  its key has no free seat for it; ordered by fair shares among the key's users
--   later                    it is tried again at a later time (the upstream failed before it answered)
--   the queue                arq's sorted set, one per lane, ordered by fair shares among keys;
--                            every job in it may be claimed now, lowest score first
-- A job in the queue, or running, occupies one of its key's seats. A key has a seat if it may have one more
-- job at once and, for a job on its own account, if that has a free slot, is not paused, is not cooling down, and is
-- not parked for the family. So a full key blocks no other, and claiming never has to look for a job that may run.
local line = {}

local CORRECTED = 1000 -- jobs in a queue whose tags are corrected

-- Count a waiting job, by sort, by lane and by key.
function line.count_in(id, lane, key, deadline)
  if redis.call('ZADD', keys.waiting(lanes.sort(lane)), deadline, id) == 0 then return end
  redis.call('ZINCRBY', keys.backlog(lane), 1, key)
  redis.call('ZINCRBY', keys.waits(key), 1, lane)
  redis.call('PEXPIRE', keys.waits(key), durations.DAY)
end

local function take_one(counts, of)
  if tonumber(redis.call('ZINCRBY', counts, -1, of)) <= 0 then redis.call('ZREM', counts, of) end
end

function line.count_out(id, lane, key)
  if redis.call('ZREM', keys.waiting(lanes.sort(lane)), id) == 0 then return end
  take_one(keys.backlog(lane), key)
  take_one(keys.waits(key), lane)
end

-- Number of a key's waiting jobs.
function line.number_of(key)
  local counts, sum = redis.call('ZRANGE', keys.waits(key), 0, -1, 'WITHSCORES'), 0
  for i = 2, #counts, 2 do sum = sum + counts[i] end
  return sum
end

-- The key's first waiting job among its users that may take a seat: lane, family, id, tag, and true if it runs
-- on the key's own account; or nil. Not one of a lane in `taken`. `own_free`: its own account has a free slot.
local function head(key, taken, own_free)
  local lane, family, id, tag, own
  for _, its_line in ipairs(redis.call('SMEMBERS', keys.lines(key))) do
    local its_lane, its_family, shared = string.match(its_line, '^(%S+) (%S+)(.*)$')
    local its_own = shared == ''
    local first = redis.call('ZRANGE', keys.line(key, its_lane, its_family), 0, 0, 'WITHSCORES')
    if #first == 0 then
      redis.call('SREM', keys.lines(key), its_line)
    elseif not taken[its_lane] and (not tag or tonumber(first[2]) < tag)
        and (not its_own or own_free and not accounts.is_parked(key, its_family)) then
      lane, family, id, tag, own = its_lane, its_family, first[1], tonumber(first[2]), its_own
    end
  end
  return lane, family, id, tag, own
end

-- Release the seats of running jobs whose record was evicted, or expired while no role was running.
local function release_lost(key)
  for _, id in ipairs(redis.call('ZRANGE', keys.running(key), 0, -1)) do
    if redis.call('EXISTS', keys.job(id)) == 0 then
      redis.call('ZREM', keys.running(key), id)
      accounts.release(key, id)
    end
  end
end

-- Jobs that a key may have at once; no limit, unless it has a cap.
function line.cap(key)
  local cap = tonumber(redis.call('HGET', keys.key(key), 'cap') or 0)
  return cap > 0 and cap or math.huge
end

-- Free seats of a key: of all its jobs, and of those on its own account. `number` is that of its jobs in the
-- queues, `own` of them on its own account.
local function free_seats(key, number, own)
  local held_back = accounts.is_cooling(key) or accounts.is_paused(key)
  local own_free = held_back and 0 or accounts.free(key) - own
  local cap = line.cap(key)
  if cap == math.huge then return cap, own_free end
  return cap - number - redis.call('ZCARD', keys.running(key)), own_free
end

-- Give the key's free seats to its first jobs: one in each lane's queue at a time, so that a new
-- job, also of another user of the key, has at most that one before it. Returns those that are in the
-- queues, by lane.
function line.fill_seats(key)
  local queued = keys.queued(key)
  local taken, number, own = {}, 0, 0 -- lanes in whose queue the key has a job
  for _, id in ipairs(redis.call('SMEMBERS', queued)) do
    local lane, account = hash.get(keys.job(id), 'lane', 'account')
    if lane then
      taken[lane], number = id, number + 1
      if account == key then own = own + 1 end
    else
      redis.call('SREM', queued, id) -- its record was evicted
    end
  end
  local free, own_free = free_seats(key, number, own)
  if free <= 0 or own_free <= 0 then
    release_lost(key)
    free, own_free = free_seats(key, number, own)
  end
  while free > 0 do
    local lane, family, id, line_tag, its_own = head(key, taken, own_free > 0)
    if not id then break end
    local state, tag, band, promised, slots = hash.get(keys.job(id), 'state', 'tag', 'band', 'promised', 'slots')
    redis.call('ZREM', keys.line(key, lane, family), id)
    if state then
      fairness.users_start(key, line_tag - band)
      if tag then
        tag = fairness.old_tag(lane, key, family, slots, tonumber(tag))
      else
        tag = fairness.next_tag(lane, key, family, slots, promised)
      end
      redis.call('HSET', keys.job(id), 'tag', tag)
      redis.call('SADD', queued, id)
      queue.add(lane, key, id, tag)
      channels.nudge()
      taken[lane] = id
      free = free - 1
      if its_own then own_free = own_free - 1 end
    end
  end
  return taken
end

-- Correct the tags of the jobs in a lane's queue, which followed from a guess of the service time.
function line.correct_tags(lane)
  for _, id in ipairs(redis.call('ZRANGE', keys.queue(lane), 0, CORRECTED - 1)) do
    local key = redis.call('HGET', keys.job(id), 'key')
    if key then fairness.advance_tag(id, lane, key) end
  end
end

-- Fields of a job's record that its place follows from.
function line.place(id)
  return hash.some(keys.job(id), 'state', 'lane', 'key', 'family', 'account', 'slots', 'line_tag')
end

-- Put a job into its key's line, at the place it has had from the start. `place`: of `line.place`.
function line.insert(id, place)
  local key, lane, family = place.key, place.lane, place.family
  redis.call('SADD', keys.lines(key), lane .. ' ' .. family .. (place.account == key and '' or ' shared'))
  redis.call('ZADD', keys.line(key, lane, family), place.line_tag, id)
end

-- Remove a job from the place where it waits or runs. True if it held a seat.
function line.remove(id, job)
  local lane, key = job.lane, job.key
  if redis.call('ZREM', keys.line(key, lane, job.family), id) == 1 then return false end
  if redis.call('ZREM', keys.later, 'job ' .. id) == 1 then return false end
  if job.upstream then leases.release(id, job) end
  queue.remove(lane, id)
  return redis.call('SREM', keys.queued(key), id) + redis.call('ZREM', keys.running(key), id) > 0
end

-- Move those of a key's jobs from the queues back into its lines that a function of their places chooses.
local function unseat(key, leaves)
  for _, id in ipairs(redis.call('SMEMBERS', keys.queued(key))) do
    local place = line.place(id)
    if place.lane and leaves(place) then
      queue.remove(place.lane, id)
      redis.call('SREM', keys.queued(key), id)
      fairness.hold(place.lane, key, place.family, -(place.slots or 1))
      line.insert(id, place)
    end
  end
end

-- Take the seats of a key's jobs on its own account: the account is cooling down, or may hold fewer. `family`: only
-- jobs of this one.
function line.unseat(key, family)
  unseat(key, function(place) return place.account == key and (not family or family == place.family) end)
end

-- Give the seats of a key's waiting jobs anew: it may have more or fewer jobs at once than before.
function line.reseat(key)
  unseat(key, function() return true end)
  line.fill_seats(key)
end

-- End a pause: an account of a key's own has its seats again. True if there was one.
function line.resume(what, name)
  if not pauses.remove(what, name) then return false end
  if what == 'account' then line.fill_seats(name) end
  channels.nudge()
  return true
end

-- Put a job that was requeued into its key's line. One that comes after it there leaves the queue of their lane.
function line.put_back(id, job)
  unseat(job.key, function(place)
    return place.lane == job.lane and tonumber(place.line_tag) > tonumber(job.line_tag)
  end)
  line.insert(id, job)
end

return line

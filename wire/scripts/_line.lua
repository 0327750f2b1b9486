-- Shared by every script of the queue: the key names, the clock, and how an account's jobs move.
--
-- A waiting job is in exactly one place:
--   line:<account>  its account has no free seat (at its cap, or resting), ordered by score
--   the queue       arq's sorted set; every job in it may be claimed now, lowest score first
-- A job in the queue, or running, occupies one of its account's seats. So a full account blocks
-- nobody, and claiming never has to look past the head of the queue.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local arrival = string.format('%.3f', clock[1] * 1000 + clock[2] / 1000)

local ENDED_TTL = 60000 -- ms that an ended job stays, for a front end that missed its ending

local LEASES = 'gateway:leases'
local RESTING = 'gateway:resting'
local PULSE = 'gateway:pulse'

local function job_key(id) return 'gateway:job:' .. id end
local function log_key(id) return 'gateway:log:' .. id end
local function line_key(account) return 'gateway:line:' .. account end
local function seats_key(account) return 'gateway:seats:' .. account end
local function account_key(account) return 'gateway:account:' .. account end
local function front_key(front) return 'gateway:front:' .. front end
-- Whether any of a job's front ends is alive; their names are separated by spaces.
local function is_awaited(fronts)
  for front in string.gmatch(fronts, '%S+') do
    if redis.call('EXISTS', front_key(front)) == 1 then return true end
  end
  return false
end
-- Publish the (channel, frame) pairs at the end of ARGV, the first of them at `from`.
local function publish(from)
  for i = from, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
end
local function nudge(queue) redis.call('PUBLISH', 'gateway:nudge:' .. queue, '') end

-- How long (ms) Redis and its clients have been going on undisturbed. A restart (another run id)
-- and a time in which nobody called (a freeze, a partition) count from zero again: leases may then
-- be past their end only because nobody could renew them, and with a Redis that lost its last
-- second, workers may hold conversations that it does not know of.
local function undisturbed(gap)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local pulse = redis.call('HMGET', PULSE, 'run', 'at', 'since')
  local since = tonumber(pulse[3])
  if pulse[1] ~= run or now - tonumber(pulse[2]) > gap then since = now end
  redis.call('HSET', PULSE, 'run', run, 'at', now, 'since', since)
  return now - since
end

-- Give the account's free seats to its jobs that have waited longest.
local function fill_seats(account)
  if redis.call('ZSCORE', RESTING, account) then return end
  local cap = tonumber(redis.call('HGET', account_key(account), 'cap') or 1)
  local seats = seats_key(account)
  if redis.call('SCARD', seats) >= cap then
    -- A job whose record was evicted, or expired while all roles were away, gives its seat back.
    for _, id in ipairs(redis.call('SMEMBERS', seats)) do
      if redis.call('EXISTS', job_key(id)) == 0 then redis.call('SREM', seats, id) end
    end
  end
  local free = cap - redis.call('SCARD', seats)
  while free > 0 do
    local head = redis.call('ZPOPMIN', line_key(account))
    if #head == 0 then return end
    local id, score = head[1], head[2]
    local queue = redis.call('HGET', job_key(id), 'queue')
    if queue then
      redis.call('SADD', seats, id)
      redis.call('ZADD', queue, score, id)
      nudge(queue)
      free = free - 1
    end
  end
end

-- The one ending of a job. Its request is forgotten at once, its log a minute later; whoever
-- waits behind it moves up.
local function close_job(id, account, queue, state)
  redis.call('HSET', job_key(id), 'state', state)
  redis.call('HDEL', job_key(id), 'body', 'worker')
  redis.call('PEXPIRE', job_key(id), ENDED_TTL)
  redis.call('PEXPIRE', log_key(id), ENDED_TTL)
  redis.call('DEL', 'arq:job:' .. id, 'arq:retry:' .. id, 'arq:in-progress:' .. id)
  redis.call('ZREM', LEASES, id)
  redis.call('ZREM', queue, id)
  redis.call('ZREM', line_key(account), id)
  redis.call('SREM', seats_key(account), id)
  fill_seats(account)
  nudge(queue) -- a slot of the whole upstream is free, whoever comes next
end

-- Back to its old place, which is the score it came with; unless nobody wants it any more.
local function put_back(id, account, queue, score)
  if redis.call('HEXISTS', job_key(id), 'cancel') == 1 then
    return close_job(id, account, queue, 'cancelled')
  end
  redis.call('HSET', job_key(id), 'state', 'waiting')
  redis.call('HDEL', job_key(id), 'worker')
  redis.call('ZREM', LEASES, id)
  redis.call('SREM', seats_key(account), id)
  redis.call('ZADD', line_key(account), score, id)
  fill_seats(account)
  nudge(queue)
end

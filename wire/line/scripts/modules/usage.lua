-- needs: calendar, durations, keys, metrics
-- Usage of keys. Each number is counted by the script that changes the job, so a crash neither loses nor doubles it:
-- a request when its job is accepted, all else when the job finishes, on the day (UTC) of that time.
--
-- `book` is the key that a job is booked under, and `model` the name of its model, percent-encoded.
local usage = {}

local NO_ONE = 'passthrough' -- the book of all keys that are not this gateway's own
local MODELS = 100           -- models that a key may name on one day; further ones are counted together
local OTHER = 'other'
local COUNTED = 100          -- books that have metrics of their own; all further ones are counted together

-- Add to a number of a book and model, or of a key (`whose`); returns the sum. A new one sets how long (ms) its hash
-- is kept. pcall: a number that cannot be stored (Redis is full) must not leave a change half done.
local function add(name, whose, number, by, kept)
  local command = number == 'units' and 'HINCRBYFLOAT' or 'HINCRBY' -- which takes half the time
  local sum = tonumber(redis.pcall(command, name, whose .. number, by))
  if sum == by then redis.pcall('PEXPIRE', name, kept) end
  return sum
end

-- Add to what a key of this gateway has spent, this day and this month.
local function spend(book, unit, by)
  if book == NO_ONE or by == 0 then return end
  add(keys.spent(book, calendar.day()), '', unit, by, 2 * durations.DAY)
  add(keys.spent(book, calendar.month()), '', unit, by, 32 * durations.DAY)
end

-- The book under which a request (`is_new`), or the tokens of one, are counted for the metrics; nil: not at all. The
-- first books to come have numbers of their own until their keys are revoked, three each.
local function counted_as(book, is_new)
  if redis.call('HEXISTS', keys.counted, book .. ' requests') == 1 then return book end
  if redis.call('HLEN', keys.counted) >= 3 * (COUNTED + 2) then return OTHER end
  if not is_new then return nil end
  for _, one in ipairs({NO_ONE, OTHER, book}) do
    for _, what in ipairs({' requests', ' input', ' output'}) do redis.pcall('HSETNX', keys.counted, one .. what, 0) end
  end
  return book
end

-- Add to such a number: `requests`, or tokens, `input` and `output`.
local function count(book, what, by)
  if book then redis.pcall('HINCRBY', keys.counted, book .. ' ' .. what, by) end
end

-- Count a job that is accepted. Sets its model to `other` if its key has named too many.
function usage.request(job)
  local name, kept = keys.usage(calendar.day()), job.usage_days * durations.DAY
  local whose = job.book .. ' ' .. job.model .. ' '
  if add(name, whose, 'requests', 1, kept) == 1 and add(name, job.book .. ' ', 'models', 1, kept) > MODELS then
    redis.call('HDEL', name, whose .. 'requests')
    job.model = OTHER
    add(name, job.book .. ' ' .. OTHER .. ' ', 'requests', 1, kept)
  end
  spend(job.book, 'requests', 1)
  count(counted_as(job.book, true), 'requests', 1)
end

-- Count the ending of a job: a record with `book`, `model`, `usage_days`, `units` and `published`. Its units and its
-- `tokens` {in, out}, or nil, count if the upstream began to answer, or finished.
function usage.ending(job, reason, slot_ms, tokens)
  if not job.book then return end -- an older release enqueued it
  local name, kept = keys.usage(calendar.day()), job.usage_days * durations.DAY
  local whose = job.book .. ' ' .. job.model .. ' '
  add(name, whose, 'ended:' .. reason, 1, kept)
  if slot_ms > 0 then add(name, whose, 'slot_ms', slot_ms, kept) end
  if not job.published and reason ~= 'done' then return end
  local units, input, output = tonumber(job.units), unpack(tokens or {0, 0})
  if units > 0 then add(name, whose, 'units', units, kept) end
  spend(job.book, 'units', units)
  if input + output == 0 then return end
  add(name, whose, 'input_tokens', input, kept)
  add(name, whose, 'output_tokens', output, kept)
  spend(job.book, 'tokens', input + output)
  local book = counted_as(job.book)
  count(book, 'input', input)
  count(book, 'output', output)
  metrics.count('gateway_usage_tokens_total', {direction = 'input'}, input)
  metrics.count('gateway_usage_tokens_total', {direction = 'output'}, output)
end

-- Number of requests, tokens or units (`unit`) that a key has spent in this 'day' or 'month' (UTC).
function usage.spent(book, unit, period)
  local name = keys.spent(book, period == 'day' and calendar.day() or calendar.month())
  return tonumber(redis.call('HGET', name, unit) or 0)
end

return usage

-- needs: calendar, durations, keys, metrics
-- Usage of keys. Each number is counted by the script that changes the job, so a crash neither loses nor doubles it:
-- a request when its job is accepted, all else when the job finishes, on the day (UTC) of that time.
--
-- `book` is the key that a job is booked under, and `model` the name of its model, percent-encoded.
local usage = {}

local NO_ONE = 'passthrough' -- the book of all keys that are not this gateway's own
local MODELS = 100           -- models that a key may name on one day; further ones are counted together
local OTHER = 'other'

-- Add to a field; returns the sum. A new field sets how long (ms) its hash is kept.
-- pcall: a number that cannot be stored (Redis is full) must not leave a change half done.
local function add(name, field, by, kept)
  local sum = tonumber(redis.pcall('HINCRBYFLOAT', name, field, by))
  if sum == by then redis.pcall('PEXPIRE', name, kept) end
  return sum
end

-- Add to what a key of this gateway has spent, this day and this month.
local function spend(book, unit, by)
  if book == NO_ONE or by == 0 then return end
  add(keys.spent(book, calendar.day()), unit, by, 2 * durations.DAY)
  add(keys.spent(book, calendar.month()), unit, by, 32 * durations.DAY)
end

-- Count a job that is accepted. Sets its model to `other` if its key has named too many.
function usage.request(job)
  local name, kept = keys.usage(calendar.day()), job.usage_days * durations.DAY
  local function count(by) return add(name, job.book .. ' ' .. job.model .. ' requests', by, kept) end
  if count(1) == 1 and add(name, job.book .. ' models', 1, kept) > MODELS then
    redis.call('HDEL', name, job.book .. ' ' .. job.model .. ' requests')
    job.model = OTHER
    count(1)
  end
  spend(job.book, 'requests', 1)
end

-- Count the ending of a job: a record with `book`, `model`, `usage_days`, `units` and `published`. Its units and its
-- `tokens` {in, out}, or nil, count if the upstream began to answer, or finished.
function usage.ending(job, reason, slot_ms, tokens)
  if not job.book then return end -- an older release enqueued it
  local name, kept = keys.usage(calendar.day()), job.usage_days * durations.DAY
  local function count(what, by)
    if by > 0 then add(name, job.book .. ' ' .. job.model .. ' ' .. what, by, kept) end
  end
  local ran = job.published or reason == 'done'
  local input, output = unpack(ran and tokens or {0, 0})
  local units = ran and tonumber(job.units) or 0
  count('ended:' .. reason, 1)
  count('input_tokens', input)
  count('output_tokens', output)
  count('slot_ms', slot_ms)
  count('units', units)
  spend(job.book, 'tokens', input + output)
  spend(job.book, 'units', units)
  if input + output == 0 then return end
  metrics.count('gateway_usage_tokens_total', {direction = 'input'}, input)
  metrics.count('gateway_usage_tokens_total', {direction = 'output'}, output)
end

-- Number of requests, tokens or units (`unit`) that a key has spent in this 'day' or 'month' (UTC).
function usage.spent(book, unit, period)
  local name = keys.spent(book, period == 'day' and calendar.day() or calendar.month())
  return tonumber(redis.call('HGET', name, unit) or 0)
end

return usage

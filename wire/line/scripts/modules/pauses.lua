-- needs: clock, durations, keys
-- Pauses: operators' holds. The intake of all jobs or of a key's is paused: new jobs are refused, those that wait are
-- served. An upstream or an account is paused: it gets no jobs until an operator resumes it, or its time is over,
-- whatever it answers meanwhile.
--
-- One hash holds them, by `<what> <name>`; `all` has an empty name. Mostly there is none, and then a run of a script
-- asks for that once.
local pauses = {}

pauses.LONG = durations.HOUR -- time (ms) after which a pause without an end is over, in forecasts

local RETRY = 30000 -- retry time (ms) in a pause without an end, or with a distant one
local MOST = 1000   -- pauses at a time

local some -- true if there are any

local function field(what, name) return what .. ' ' .. name end

-- True if there is a pause of any kind.
function pauses.any()
  if some == nil then some = redis.call('EXISTS', keys.pauses) == 1 end
  return some
end

-- End of a pause (ms); nil if it has none, or there is no such pause: `known` says which.
local function stored(what, name)
  local known = pauses.any() and redis.call('HGET', keys.pauses, field(what, name))
  local until_ = known and cjson.decode(known)['until']
  return known and true or false, until_ ~= cjson.null and until_ or nil
end

-- Time (ms) until which something is paused; in the past, or 0, if it is not.
function pauses.until_(what, name)
  local known, until_ = stored(what, name)
  return known and (until_ or clock.now + pauses.LONG) or 0
end

-- The same with its own end: `math.huge`, if it has none.
function pauses.end_of(what, name)
  local known, until_ = stored(what, name)
  return known and (until_ or math.huge) or 0
end

function pauses.holds(what, name) return pauses.until_(what, name) > clock.now end

-- True if something is paused, or its pause is over and the next claim will end it.
function pauses.is_set(what, name) return (stored(what, name)) end

-- Time (ms) until which no new job of a key is admitted, whatever it runs on; in the past, or 0, if they are.
function pauses.intake_until(key) return math.max(pauses.until_('all', ''), pauses.until_('key', key)) end

-- Retry time (ms from now) of a job that is refused until a time.
function pauses.retry(until_)
  local left = until_ - clock.now
  return left < pauses.LONG and left or RETRY
end

-- Pause something for some time (ms), or without an end if that is nil. Returns 'paused', 'already' if it is paused
-- without an end and shall be, or 'too_many'.
function pauses.set(what, name, by, ms)
  local name_of = field(what, name)
  local known, until_ = stored(what, name)
  if known and not until_ and not ms then return 'already' end
  if not known and redis.call('HLEN', keys.pauses) >= MOST then return 'too_many' end
  until_ = ms and clock.now + ms or nil
  redis.call('HSET', keys.pauses, name_of, cjson.encode({since = clock.now, by = by, ['until'] = until_ or cjson.null}))
  redis.call('ZREM', keys.later, 'pause ' .. name_of)
  if until_ then redis.call('ZADD', keys.later, until_, 'pause ' .. name_of) end
  some = true
  return 'paused'
end

-- End a pause. True if there was one.
function pauses.remove(what, name)
  redis.call('ZREM', keys.later, 'pause ' .. field(what, name))
  return redis.call('HDEL', keys.pauses, field(what, name)) == 1
end

-- Put the ends of pauses where they are due, if they are missing there: a process of an older release drops them.
function pauses.mend()
  local all = pauses.any() and redis.call('HGETALL', keys.pauses) or {}
  for n = 1, #all, 2 do
    local until_ = cjson.decode(all[n + 1])['until']
    if until_ ~= cjson.null then redis.call('ZADD', keys.later, 'NX', until_, 'pause ' .. all[n]) end
  end
end

-- Number of pauses of each kind.
function pauses.numbers()
  local found = {all = 0, key = 0, upstream = 0, account = 0}
  for _, each in ipairs(redis.call('HKEYS', keys.pauses)) do
    local what = string.match(each, '^%a+')
    if found[what] then found[what] = found[what] + 1 end -- else it is of a newer release
  end
  return found
end

return pauses

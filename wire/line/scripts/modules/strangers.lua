-- needs: clock, durations, keys
-- Keys without an answer so far (strangers), keys that the upstream refused, and the lifetimes of what is
-- known of a key: a day for one that returns, an hour for one that came once, minutes for a stranger.
local strangers = {}

function strangers.is_one(key) return redis.call('HEXISTS', keys.key(key), 'answered') == 0 end

-- True if the last attempt of a stranger in this lane ended without an answer, less than a minute ago: the
-- keys of the others are probably made up, too.
function strangers.in_doubt(lane)
  return tonumber(redis.call('HGET', keys.lane(lane), 'doubt') or 0) > clock.now
end

-- Note an attempt of a stranger that ended without an answer.
function strangers.note_failure(lane) redis.call('HSET', keys.lane(lane), 'doubt', clock.now + durations.MINUTE) end

-- Note the beginning of an answer. True if it is the key's first one.
function strangers.note_answer(lane, key)
  if redis.call('HSETNX', keys.key(key), 'answered', 1) == 0 then return false end
  redis.call('HDEL', keys.lane(lane), 'doubt')
  strangers.keep(key, durations.HOUR)
  return true
end

-- Remember for a minute that the upstream refused a key.
function strangers.refuse(key) redis.call('SET', keys.refused(key), '', 'PX', durations.MINUTE) end

-- Time (ms) for which a key is still refused; 0 if it is not.
function strangers.refused_for(key) return math.max(0, redis.call('PTTL', keys.refused(key))) end

-- Redis keys that hold what is known of a key and of its own account.
local function known_of(key) return {keys.key(key), keys.users(key), keys.account(key)} end

-- Keep what is known of a key for at least some time (ms).
function strangers.keep(key, ms)
  for _, name in ipairs(known_of(key)) do
    if redis.call('PTTL', name) < ms then redis.call('PEXPIRE', name, ms) end
  end
end

-- Keep what is known of a key after one of its jobs; of a stranger without another job, only briefly.
function strangers.keep_after_job(key)
  if not strangers.is_one(key) then return strangers.keep(key, durations.HOUR) end
  strangers.keep(key, durations.MINUTE)
  if redis.call('EXISTS', keys.running(key), keys.waits(key)) > 0 then return end
  for _, name in ipairs(known_of(key)) do redis.call('PEXPIRE', name, durations.MINUTE) end
end

return strangers

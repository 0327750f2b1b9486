-- needs: clock, durations, keys, vocabulary
-- Keys without an answer so far (strangers), keys that the upstream refused, and the lifetimes of what is
-- known of a key: a day for one that returns, an hour for one that came once, minutes for a stranger.
local strangers = {}

function strangers.is_one(account) return redis.call('HEXISTS', keys.account(account), 'answered') == 0 end

-- True if the last attempt of a stranger in this lane ended without an answer, less than a minute ago: the
-- keys of the others are probably made up, too.
function strangers.in_doubt(lane)
  return tonumber(redis.call('HGET', keys.lane(lane), 'doubt') or 0) > clock.now
end

-- Note an attempt of a stranger that ended without an answer.
function strangers.note_failure(lane) redis.call('HSET', keys.lane(lane), 'doubt', clock.now + durations.MINUTE) end

-- Note the beginning of an answer. True if it is the key's first one.
function strangers.note_answer(lane, account)
  if redis.call('HSETNX', keys.account(account), 'answered', 1) == 0 then return false end
  redis.call('HDEL', keys.lane(lane), 'doubt')
  strangers.keep(account, durations.HOUR)
  return true
end

-- Remember for a minute that the upstream refused a key.
function strangers.refuse(account) redis.call('SET', keys.refused(account), '', 'PX', durations.MINUTE) end

-- Time (ms) for which a key is still refused; 0 if it is not.
function strangers.refused_for(account) return math.max(0, redis.call('PTTL', keys.refused(account))) end

-- Keep what is known of an account for at least some time (ms).
function strangers.keep(account, ms)
  for _, key in ipairs({keys.account(account), keys.users(account)}) do
    if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
  end
end

-- Keep what is known of an account after one of its jobs; of a stranger without another job, only briefly.
function strangers.keep_after_job(account)
  if not strangers.is_one(account) then return strangers.keep(account, durations.HOUR) end
  strangers.keep(account, durations.MINUTE)
  if redis.call('EXISTS', keys.running(account)) == 1 then return end
  for _, lane in ipairs(vocabulary.lanes) do
    if redis.call('ZSCORE', keys.backlog(lane), account) then return end
  end
  redis.call('PEXPIRE', keys.account(account), durations.MINUTE)
  redis.call('PEXPIRE', keys.users(account), durations.MINUTE)
end

return strangers

-- needs: clock, durations, hash, keys, pauses
-- Accounts: what jobs run on. Each has slots, of which running jobs hold one each.
--
-- A key that is passed through to the upstream has an account of its own, which has the key's name: its jobs
-- have that account from the start. Other jobs get one when they are claimed. Of a shared account, `family` is
-- the model of a lane.
--
-- A shared account that failed by itself, since its token was refused for example, is set aside: it cools down,
-- and is then tried with one job at a time until an answer begins. An account that an operator has paused gets no job
-- until it is resumed, besides all that.
local accounts = {}

local SHORTEST, LONGEST = durations.MINUTE, durations.HOUR -- for which an account is set aside, doubling

-- Conversations that an account may hold now: its cap, or fewer if the upstream was seen to allow fewer. One, if
-- it was set aside: then the second result is the reason.
function accounts.cap(account)
  local cap, learned, aside = hash.get(keys.account(account), 'cap', 'learned', 'aside')
  if aside then return 1, aside end
  cap = tonumber(cap or 1)
  return math.max(1, math.min(cap, math.floor(tonumber(learned or cap))))
end

-- Slots that an account has free now, of `cap` if that is known.
function accounts.free(account, cap)
  return (cap or accounts.cap(account)) - redis.call('SCARD', keys.holds(account))
end

-- A running job holds a slot, or holds it no longer. True if that is a change.
function accounts.hold(account, id) return redis.call('SADD', keys.holds(account), id) == 1 end
function accounts.release(account, id) return redis.call('SREM', keys.holds(account), id) == 1 end

-- Let an account cool down until a time (ms): it gets no jobs.
function accounts.cool_down(account, until_)
  redis.call('ZADD', keys.later, math.max(until_, accounts.aside_until(account)), 'account ' .. account)
end
function accounts.is_cooling(account) return redis.call('ZSCORE', keys.later, 'account ' .. account) end

-- Park a family of models for an account until a time (ms): the account gets no jobs of it.
function accounts.park(account, family, until_)
  redis.call('ZADD', keys.later, until_, 'family ' .. account .. ' ' .. family)
end
function accounts.is_parked(account, family)
  return redis.call('ZSCORE', keys.later, 'family ' .. account .. ' ' .. family)
end

-- Time (ms) until which an operator has paused an account, until which a family is parked for it, and until which the
-- account cannot be used for it; in the past, or 0, if it can.
function accounts.paused_until(account) return pauses.until_('account', account) end
function accounts.parked_until(account, family) return tonumber(accounts.is_parked(account, family) or 0) end
function accounts.blocked_until(account, family)
  return math.max(tonumber(accounts.is_cooling(account) or 0), accounts.parked_until(account, family),
    accounts.paused_until(account))
end

-- True if an operator has paused an account: like a cool-down, until a claim or a search for expired leases ends it.
function accounts.is_paused(account) return pauses.is_set('account', account) end

-- Reason for which an account was set aside, until it has given an answer; nil without one.
function accounts.set_aside_for(account) return redis.call('HGET', keys.account(account), 'aside') or nil end

-- Time (ms) until which an account is set aside; in the past, or 0, if it is not.
function accounts.aside_until(account)
  if not accounts.set_aside_for(account) then return 0 end
  return tonumber(accounts.is_cooling(account) or 0)
end

-- Time (ms) until which an account is set aside, or has used up a family of models; in the past, or 0, if neither.
function accounts.spent_until(account, family)
  return math.max(accounts.aside_until(account), accounts.parked_until(account, family))
end

-- Conversations that an account may hold now, of this family of models: none, if it is set aside or parked, and those
-- that it holds, if it is paused.
function accounts.usable(account, family)
  if accounts.is_paused(account) then return redis.call('SCARD', keys.holds(account)) end
  local cap, aside = accounts.cap(account)
  if aside and accounts.is_cooling(account) or family and accounts.is_parked(account, family) then return 0 end
  return cap
end

-- Set an account aside for a reason: for a time (ms), or if that is 0 for twice as long each time until an answer
-- begins. Jobs that ran there at the same time count once.
function accounts.set_aside(account, reason, pause)
  local aside, last = hash.get(keys.account(account), 'aside', 'rest')
  if aside and accounts.is_cooling(account) then return end
  if pause == 0 then
    pause = math.min(math.max(aside and last * 2 or 0, SHORTEST), LONGEST)
    redis.call('HSET', keys.account(account), 'rest', pause)
  end
  redis.call('HSET', keys.account(account), 'aside', reason)
  accounts.cool_down(account, clock.now + pause)
end

-- True if an account cools down, was set aside, or may hold fewer jobs than it has slots.
function accounts.is_held_back(account)
  local aside, rest, learned = hash.get(keys.account(account), 'aside', 'rest', 'learned')
  return (aside or rest or learned or accounts.is_cooling(account)) and true or false
end

-- Use an account again, for all its models: its token has changed, and nothing is known of the new one; or an operator
-- wants it.
function accounts.wake(account, families)
  redis.call('HDEL', keys.account(account), 'aside', 'rest', 'learned')
  redis.call('SREM', keys.limited, account)
  redis.call('ZREM', keys.later, 'account ' .. account)
  for family in pairs(families) do redis.call('ZREM', keys.later, 'family ' .. account .. ' ' .. family) end
end

-- Halve the slots of an account that was busy although it had a free one.
function accounts.shrink(account)
  local cap = accounts.cap(account)
  if cap == 1 then return end
  redis.call('HSET', keys.account(account), 'learned', math.max(1, cap / 2))
  redis.call('SADD', keys.limited, account)
end

-- An answer has begun: if the cap of its account was once too much, try for more, one more after as many
-- answers as it holds. True if it may hold more.
function accounts.grow(account)
  local more = redis.call('HDEL', keys.account(account), 'rest', 'aside') > 0
  local cap, learned = hash.get(keys.account(account), 'cap', 'learned')
  if not learned then return more end
  learned = tonumber(learned) + 1 / tonumber(learned)
  if learned >= tonumber(cap) then
    redis.call('HDEL', keys.account(account), 'learned')
    redis.call('SREM', keys.limited, account)
  else
    redis.call('HSET', keys.account(account), 'learned', learned)
  end
  return true
end

-- Let an account cool down, twice as long each time until an answer begins; unless it still runs more jobs
-- than it may, since then the upstream is not asked at once.
function accounts.rest(account, shortest, longest)
  if accounts.free(account) < 0 then return end
  local last = tonumber(redis.call('HGET', keys.account(account), 'rest') or 0)
  local pause = math.min(math.max(last * 2, shortest), longest)
  redis.call('HSET', keys.account(account), 'rest', pause)
  accounts.cool_down(account, clock.now + pause)
end

return accounts

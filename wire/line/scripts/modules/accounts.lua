-- needs: clock, hash, keys
-- Accounts: what jobs run on. Each has slots, of which running jobs hold one each.
--
-- A key that is passed through to the upstream has an account of its own, which has the key's name: its jobs
-- have that account from the start. Other jobs get one when they are claimed.
local accounts = {}

-- Conversations that an account may hold now: its cap, or fewer if the upstream was seen to allow fewer.
function accounts.cap(account)
  local cap, learned = hash.get(keys.account(account), 'cap', 'learned')
  cap = tonumber(cap or 1)
  return math.max(1, math.min(cap, math.floor(tonumber(learned or cap))))
end

-- Slots that an account has free now.
function accounts.free(account) return accounts.cap(account) - redis.call('SCARD', keys.holds(account)) end

-- A running job holds a slot, or holds it no longer. True if that is a change.
function accounts.hold(account, id) return redis.call('SADD', keys.holds(account), id) == 1 end
function accounts.release(account, id) return redis.call('SREM', keys.holds(account), id) == 1 end

-- Let an account cool down until a time (ms): it gets no jobs.
function accounts.cool_down(account, until_) redis.call('ZADD', keys.later, until_, 'account ' .. account) end
function accounts.is_cooling(account) return redis.call('ZSCORE', keys.later, 'account ' .. account) end

-- Park a family of models for an account until a time (ms): the account gets no jobs of it.
function accounts.park(account, family, until_)
  redis.call('ZADD', keys.later, until_, 'family ' .. account .. ' ' .. family)
end
function accounts.is_parked(account, family)
  return redis.call('ZSCORE', keys.later, 'family ' .. account .. ' ' .. family)
end

-- Time (ms) until which a family is parked for an account, and until which the account cannot be used for
-- it; in the past, or 0, if it can.
function accounts.parked_until(account, family) return tonumber(accounts.is_parked(account, family) or 0) end
function accounts.blocked_until(account, family)
  return math.max(tonumber(accounts.is_cooling(account) or 0), accounts.parked_until(account, family))
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
  redis.call('HDEL', keys.account(account), 'rest')
  local cap, learned = hash.get(keys.account(account), 'cap', 'learned')
  if not learned then return false end
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

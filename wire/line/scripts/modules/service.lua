-- needs: hash, keys, lanes
-- Service time: how long conversations hold their slots, as moving averages for each lane and family,
-- of all keys and of each key.
local service = {}

local PRIOR = {chat = 15000, images = 45000, embeddings = 5000} -- ms, before anything is known, by sort
local ENOUGH = 4                                -- conversations of a lane and family, to know anything
local MEMORY = 0.05                             -- least weight of the newest sample
local RECENT = 0.25                             -- the same for the average of the last few samples
local CHANGED = 1 / 3                           -- part of the average below which the pace has changed
local TRUST = 5                                 -- samples for which the average of all keys counts

local known = {}  -- times that this run of a script has read, by lane, family and key

-- Add a sample to a moving average, whose fields in a hash begin with `kind`.
local function sample(name, kind, value)
  local n, mean, square, recent = hash.get(name, kind .. ' n', kind .. ' mean', kind .. ' square', kind .. ' recent')
  n = tonumber(n or 0) + 1
  recent = tonumber(recent or value) * (1 - RECENT) + value * RECENT
  local weight = math.max(1 / n, MEMORY)
  mean = tonumber(mean or 0) * (1 - weight) + value * weight
  square = tonumber(square or 0) * (1 - weight) + value * value * weight
  redis.call('HSET', name, kind .. ' n', n, kind .. ' mean', mean, kind .. ' square', square, kind .. ' recent', recent)
  return n
end

-- Learn from a conversation that held its slot for `took` ms. True if little was known before, so that
-- the tags that followed from it should be corrected.
function service.learn(lane, family, key, took)
  known = {}
  sample(keys.service, lane, took)
  sample(keys.key(key), lane .. ' ' .. family, took)
  return sample(keys.service, lane .. ' ' .. family, took) <= ENOUGH
end

-- Learn from an attempt of a stranger that ended without an answer after `took` ms.
function service.learn_failure(lane, took) sample(keys.service, lane .. ' unanswered', took) end

-- Expected time (ms) of a stranger's attempt that ends without an answer.
function service.unanswered(lane) return tonumber(redis.call('HGET', keys.service, lane .. ' unanswered mean') or 0) end

-- True if the service time of a lane and family is more than a guess.
function service.is_known(lane, family)
  local name = lane .. ' ' .. family .. ' n'
  known[name] = known[name] or {tonumber(redis.call('HGET', keys.service, name) or 0)}
  return known[name][1] >= ENOUGH
end

-- Part of a lane's expected service time that is certain: less than 1 if the last few jobs were much
-- shorter.
function service.certain(lane)
  local mean, recent = hash.get(keys.service, lane .. ' mean', lane .. ' recent')
  local part = recent and recent / math.max(1, tonumber(mean)) or 1
  return part < CHANGED and part or 1
end

-- Expected service time (ms, at least 1), and how much it varies, from 0 (not at all) to 1. With a
-- `key`, its own average counts more than that of all keys, the more samples it has.
function service.time(lane, family, key)
  local name = lane .. ' ' .. (family or '') .. ' ' .. (key or '')
  if known[name] then return unpack(known[name]) end
  local expected, varies = PRIOR[lanes.sort(lane)], 1
  for _, kind in ipairs({family and lane .. ' ' .. family or lane, lane}) do
    local mean, square = hash.get(keys.service, kind .. ' mean', kind .. ' square')
    if mean then
      expected = math.max(1, tonumber(mean))
      varies = math.min(1, math.max(0, tonumber(square) / expected / expected - 1))
      break
    end
  end
  if key then
    local kind = lane .. ' ' .. family
    local n, mean = hash.get(keys.key(key), kind .. ' n', kind .. ' mean')
    n = tonumber(n or 0)
    if n > 0 then expected = math.max(1, (n * mean + TRUST * expected) / (n + TRUST)) end
  end
  known[name] = {expected, varies}
  return expected, varies
end

return service

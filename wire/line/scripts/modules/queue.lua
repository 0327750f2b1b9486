-- needs: keys, strangers
-- The jobs of a lane that may be claimed now, by their tags: arq's sorted set, and for the choice of the
-- next job, those of strangers and those of all other keys (regulars) in a sorted set each.
--
-- Lanes with jobs in their queue are in a set of their own, so that a claim need not look at the others.
--
-- The lowest tag goes first, but while both kinds wait, at least every fourth job is a stranger's, and
-- while strangers are in doubt, no more than that.
local queue = {}

queue.BETWEEN = 3 -- jobs of regulars, at most, between two of strangers

function queue.is_empty(lane) return redis.call('EXISTS', keys.queue(lane)) == 0 end

-- Put a job into its lane's queue, or give it another tag there.
function queue.add(lane, key, id, tag)
  local own, other = keys.regulars(lane), keys.strangers(lane)
  if strangers.is_one(key) then own, other = other, own end
  redis.call('SADD', keys.ready, lane)
  redis.call('ZADD', keys.queue(lane), tag, id)
  redis.call('ZADD', own, tag, id)
  redis.call('ZREM', other, id)
end

function queue.remove(lane, id)
  redis.call('ZREM', keys.regulars(lane), id)
  redis.call('ZREM', keys.strangers(lane), id)
  if redis.call('ZREM', keys.queue(lane), id) == 0 then return 0 end
  if queue.is_empty(lane) then redis.call('SREM', keys.ready, lane) end
  return 1
end

-- The jobs of a key that has had its first answer are no stranger's any more.
function queue.promote(key)
  for _, id in ipairs(redis.call('SMEMBERS', keys.queued(key))) do
    local lane = redis.call('HGET', keys.job(id), 'lane')
    local tag = lane and redis.call('ZSCORE', keys.queue(lane), id)
    if tag then queue.add(lane, key, id, tag) end
  end
end

local function head(name)
  local id, tag = unpack(redis.call('ZRANGE', name, 0, 0, 'WITHSCORES'))
  return id, tonumber(tag)
end

-- The lowest tag in a lane's queue; nil if it is empty.
function queue.first_tag(lane)
  local _, tag = head(keys.queue(lane))
  return tag
end

-- Id and tag of the job whose turn it is, and the number of jobs of regulars since the last one of a stranger once
-- it has started, if both wait. A stranger that goes before its turn leaves the virtual clock at the turn of the
-- others: then that is the tag.
local function next_job(lane)
  local regular, tag = head(keys.regulars(lane))
  local stranger, its_tag = head(keys.strangers(lane))
  if not regular or not stranger then return head(keys.queue(lane)) end
  local passed = tonumber(redis.call('HGET', keys.lane(lane), 'passed') or 0)
  if passed >= queue.BETWEEN or its_tag < tag and not strangers.in_doubt(lane) then
    return stranger, math.min(tag, its_tag), 0
  end
  return regular, tag, passed + 1
end

-- Remove the job whose turn it is: id, tag, and what `start` needs; nil if there is none.
function queue.pop(lane)
  while not queue.is_empty(lane) do
    local id, tag, passed = next_job(lane)
    if queue.remove(lane, id) == 1 then return id, tag, passed end
  end
  redis.call('SREM', keys.ready, lane)
end

-- Note that a job which was removed starts.
function queue.start(lane, passed)
  if passed then redis.call('HSET', keys.lane(lane), 'passed', passed) end
end

-- Sort the jobs of a queue by kind of key again, if some of them are missing there, and note that there are
-- some. True if that was missing.
function queue.mend(lane)
  local missing = not queue.is_empty(lane) and redis.call('SADD', keys.ready, lane) == 1
  local sorted = redis.call('ZCARD', keys.regulars(lane)) + redis.call('ZCARD', keys.strangers(lane))
  if sorted == redis.call('ZCARD', keys.queue(lane)) then return missing end
  redis.call('DEL', keys.regulars(lane), keys.strangers(lane))
  local jobs = redis.call('ZRANGE', keys.queue(lane), 0, -1, 'WITHSCORES')
  for i = 1, #jobs, 2 do
    local key = redis.call('HGET', keys.job(jobs[i]), 'key')
    if key then
      queue.add(lane, key, jobs[i], jobs[i + 1])
    else
      redis.call('ZADD', keys.regulars(lane), jobs[i + 1], jobs[i]) -- its record was evicted: the claim removes it
    end
  end
  return true
end

return queue

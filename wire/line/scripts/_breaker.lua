-- The circuit breaker: an upstream that fails for everyone is left alone for a while, then tried
-- with one job at a time until one is answered.

local SHORTEST, LONGEST = 5000, 60000   -- ms that it is left alone, doubling

-- How long (ms) it stays open; nil when it is closed. 0: a probe may be sent.
local function open_for()
  local until_ = redis.call('HGET', BREAKER, 'until')
  return until_ and math.max(0, tonumber(until_) - now)
end

-- The job that tries it, if one is on its way.
local function probe()
  local id = redis.call('HGET', BREAKER, 'probe')
  return id and redis.call('HGET', job_key(id), 'state') == 'running' and id
end

-- A job failed as any other would have. It opens after `most` of them in a row; a job that was
-- tried several times is one.
local function upstream_failed(id, most)
  local left = open_for()
  if left and left > 0 then return end -- it was under way when the circuit opened
  local failures = redis.call('HGET', BREAKER, 'failures') or 0
  if redis.call('HSETNX', job_key(id), 'failed', 1) == 1 then
    failures = redis.call('HINCRBY', BREAKER, 'failures', 1)
  end
  if left or tonumber(failures) >= most then
    local pause = redis.call('HGET', BREAKER, 'pause')
    pause = math.min(LONGEST, math.max(SHORTEST, tonumber(pause or 0) * 2))
    redis.call('HSET', BREAKER, 'until', now + pause, 'pause', pause, 'failures', 0)
    redis.call('HDEL', BREAKER, 'probe')
    redis.call('PEXPIRE', BREAKER, DAY)
  end
end

-- Whatever it answered: an account that is busy or refused is no matter of everyone's.
local function upstream_answered() redis.call('DEL', BREAKER) end

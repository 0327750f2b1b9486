-- How a job moves. A waiting job is in exactly one place:
--   line:<account>:<lane>:<family>  its account has no free seat, or rests, or is parked for this
--                            family; ordered by fair shares among the key's users
--   later                    it tries again at a moment (the upstream failed before it answered)
--   the queue                arq's sorted set, one per lane, ordered by fair shares among keys;
--                            every job in it may be claimed now, lowest score first
-- A job in the queue, or running, occupies one of its account's seats. So a full account blocks
-- nobody, and claiming never has to look past the head of a queue.

-- All that is known of a job, as a table; empty if nothing is.
local function record(id)
  local flat, job = redis.call('HGETALL', job_key(id)), {}
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  return job
end

-- Waiting jobs are counted, by lane and by key.
local function count_in(id, lane, account, deadline, cost)
  if redis.call('ZADD', waiting_key(lane), deadline, id) == 1 then
    redis.call('ZINCRBY', backlog_key(lane), 1, account)
    redis.call('ZINCRBY', work_key(lane), cost, account)
  end
end

local function count_out(id, lane, account, cost)
  if redis.call('ZREM', waiting_key(lane), id) == 0 then return end
  redis.call('ZINCRBY', work_key(lane), -tonumber(cost or 0), account)
  if tonumber(redis.call('ZINCRBY', backlog_key(lane), -1, account)) <= 0 then
    redis.call('ZREM', backlog_key(lane), account)
    redis.call('ZREM', work_key(lane), account)
  end
end

local function is_parked(account, family)
  return redis.call('ZSCORE', LATER, 'family ' .. account .. ' ' .. family)
end

-- The account's waiting job that comes first among its users, but not in one of the lanes in `taken`:
-- lane, family, id, tag; or nil.
local function head_of_lines(account, taken)
  local lane, family, id, tag
  for _, line in ipairs(redis.call('SMEMBERS', lines_key(account))) do
    local its_lane, its_family = string.match(line, '^(%S+) (%S+)$')
    local head = redis.call('ZRANGE', line_key(account, its_lane, its_family), 0, 0, 'WITHSCORES')
    if #head == 0 then
      redis.call('SREM', lines_key(account), line)
    elseif not taken[its_lane] and not is_parked(account, its_family) and (not tag or tonumber(head[2]) < tag) then
      lane, family, id, tag = its_lane, its_family, head[1], tonumber(head[2])
    end
  end
  return lane, family, id, tag
end

-- Give the account's free seats to its jobs that come first: one in each lane's queue at a time, so
-- that whoever else comes, of its users too, has at most that one before them.
local function fill_seats(account)
  if redis.call('ZSCORE', LATER, 'account ' .. account) then return end
  local queued, running = queued_key(account), running_key(account)
  local cap = capacity(account)
  local taken = {} -- lanes in whose queue a job of the account stands
  -- A job whose record was evicted, or expired while all roles were away, gives its seat back.
  for _, id in ipairs(redis.call('SMEMBERS', queued)) do
    local lane = redis.call('HGET', job_key(id), 'lane')
    if lane then taken[lane] = true else redis.call('SREM', queued, id) end
  end
  if redis.call('SCARD', queued) + redis.call('ZCARD', running) >= cap then
    for _, id in ipairs(redis.call('ZRANGE', running, 0, -1)) do
      if redis.call('EXISTS', job_key(id)) == 0 then redis.call('ZREM', running, id) end
    end
  end
  local free = cap - redis.call('SCARD', queued) - redis.call('ZCARD', running)
  while free > 0 do
    local lane, family, id, line_tag = head_of_lines(account, taken)
    if not id then return end
    local tag, cost, weight, band, promised = fields(job_key(id), 'tag', 'cost', 'weight', 'band', 'promised')
    redis.call('ZREM', line_key(account, lane, family), id)
    if cost then
      advance(account_key(account), users_key(account), line_tag - band)
      local flows = shares_key(lane)
      if tag then -- it is back from an attempt, and paid for: its old place, if that is not past
        tag = math.max(tonumber(tag), tonumber(redis.call('HGET', lane_key(lane), 'now') or 1))
      else
        tag = next_tag(lane_key(lane), flows, account, tonumber(cost) / tonumber(weight), promised)
      end
      redis.call('HSET', job_key(id), 'tag', tag)
      redis.call('SADD', queued, id)
      redis.call('ZADD', queue_key(lane), tag, id)
      nudge()
      taken[lane] = true
      free = free - 1
    end
  end
end

-- Into its account's line, at the place it has had from the start.
local function line_up(id, lane, account, family, line_tag)
  redis.call('SADD', lines_key(account), lane .. ' ' .. family)
  redis.call('ZADD', line_key(account, lane, family), line_tag, id)
end

-- Out of wherever it waits or runs.
local function take_out(id, lane, account, family)
  redis.call('ZREM', leases_key(lane), id)
  redis.call('ZREM', queue_key(lane), id)
  redis.call('ZREM', line_key(account, lane, family), id)
  redis.call('SREM', queued_key(account), id)
  redis.call('ZREM', running_key(account), id)
  redis.call('ZREM', LATER, 'job ' .. id)
end

-- How long (ms) an ended job can be read again under its idempotency key, if that is still its own.
-- Without one it only stays for readers that there are.
local function keep(id, idem, ms)
  if idem and string.match(redis.call('GET', idem) or '', '^%S+') == id then redis.call('PEXPIRE', idem, ms) end
  redis.call('PEXPIRE', job_key(id), math.max(ms, ENDED_TTL))
  redis.call('PEXPIRE', log_key(id), math.max(ms, ENDED_TTL))
end

-- The one ending of a job: `reason` is 'done', 'cancelled' or whose fault it was. Its request is
-- forgotten at once, its log soon; whoever waits behind it moves up.
local function close_job(id, state, reason)
  local job = record(id)
  local lane, account, family = job.lane, job.account, job.family
  if state == 'cancelled' and job.enough then state, reason = 'done', 'done' end
  redis.call('HSET', job_key(id), 'state', state)
  redis.call('HDEL', job_key(id), 'body', 'worker')
  keep(id, job.idem, tonumber(state == 'done' and job.keep or 0))
  redis.call('DEL', 'arq:job:' .. id, 'arq:retry:' .. id, 'arq:in-progress:' .. id)
  take_out(id, lane, account, family)
  count_out(id, lane, account, tonumber(job.cost))
  redis.call('ZREM', LATER, 'orphan ' .. id)
  redis.call('DECRBY', BYTES, tonumber(job.bytes))

  -- Its flows pay for the slot time it took, which was a guess so far.
  local took = job.claimed and now - tonumber(job.claimed) or 0
  local more = took - tonumber(job.cost)
  local user_tag, tier = job.line_tag - job.band, tonumber(job.tier)
  charge(account_key(account), users_key(account), job.user, user_tag + job.cost / tier, more / tier)
  redis.call('PEXPIRE', users_key(account), DAY)
  if job.tag then
    charge(lane_key(lane), shares_key(lane), account, job.tag + job.cost / job.weight, more / job.weight)
  end
  if job.claimed then note_refill(lane, account) end
  if job.published then
    learn(lane, family, account, took)
    observe('gateway_service_seconds', {lane = lane, family = family}, took / 1000)
  end
  count('gateway_endings_total', {lane = lane, reason = reason})
  fill_seats(account)
  nudge() -- a slot of the whole upstream is free, whoever comes next
end

-- Whether an attempt is the one that runs.
local function is_current(id, attempt)
  local state, current = fields(job_key(id), 'state', 'attempt')
  return state == 'running' and current == attempt
end

-- Why an attempt's job may not go back to its place: 'not_current', as another attempt runs, or something
-- was published; 'cancelled' meanwhile, so that it has to be ended instead. nil if it may.
local function obstacle(id, attempt)
  local published, cancel = fields(job_key(id), 'published', 'cancel')
  if not is_current(id, attempt) or published then return 'not_current' end
  return cancel and 'cancelled' or nil
end

-- From an attempt back to its old place, for a reason. `later` (a moment in ms, or nil): not before
-- then. Never a job that is to be cancelled: whoever reads it must be told, so it needs an ending.
local function put_back(id, reason, later)
  local lane, account, family, line_tag, deadline, cost =
    fields(job_key(id), 'lane', 'account', 'family', 'line_tag', 'deadline', 'cost')
  count('gateway_retries_total', {lane = lane, reason = reason})
  redis.call('HSET', job_key(id), 'state', 'waiting')
  redis.call('HDEL', job_key(id), 'worker', 'claimed')
  take_out(id, lane, account, family)
  count_in(id, lane, account, deadline, cost)
  if later then
    redis.call('ZADD', LATER, later, 'job ' .. id)
  else
    line_up(id, lane, account, family, line_tag)
  end
  fill_seats(account)
  nudge()
end

-- Jobs that stand in the queue, back into their account's line: the account rests, or may hold
-- fewer. `family`: only those.
local function call_back(account, family)
  for _, id in ipairs(redis.call('SMEMBERS', queued_key(account))) do
    local lane, its_family, line_tag = fields(job_key(id), 'lane', 'family', 'line_tag')
    if lane and (not family or family == its_family) then
      redis.call('ZREM', queue_key(lane), id)
      redis.call('SREM', queued_key(account), id)
      line_up(id, lane, account, its_family, line_tag)
    end
  end
end

-- End a waiting job, or have the worker of a running one end it.
local function cancel_job(id)
  local state, worker, attempt = fields(job_key(id), 'state', 'worker', 'attempt')
  if state == 'waiting' then
    close_job(id, 'cancelled', 'cancelled')
    return 'cancelled'
  elseif state == 'running' then
    -- The mark stays for the worker's next renewal, should this message get lost.
    redis.call('HSET', job_key(id), 'cancel', 1)
    redis.call('PUBLISH', worker_channel(worker), cmsgpack.pack({'cancel', id, tonumber(attempt)}))
    return 'running'
  end
  return 'gone'
end

-- Who reads a job stands in its field `readers`: `<front end>/<reader> ...`. Whether anybody does whose
-- front end is alive.
local function has_reader(readers)
  for name in string.gmatch(readers, '([^%s/]+)%S*') do
    if redis.call('EXISTS', front_key(name)) == 1 then return true end
  end
  return false
end

-- The readers without this one, by its own name.
local function without(readers, reader)
  local others = {}
  for one in string.gmatch(readers, '%S+') do
    if string.match(one, '/(.*)$') ~= reader then others[#others + 1] = one end
  end
  return table.concat(others, ' ')
end

-- Nobody reads the job any more, but somebody may come back for it, if its log is whole. True if it
-- may go on.
local function orphan(id)
  local idem, grace, unlogged = fields(job_key(id), 'idem', 'grace', 'unlogged')
  if not idem or tonumber(grace) <= 0 or unlogged then return false end
  redis.call('ZADD', LATER, 'NX', now + tonumber(grace), 'orphan ' .. id)
  return true
end

-- What was put off until now. Every claim and every look for lapsed leases does this first.
local function wake_up()
  for _, what in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', LATER, what)
    local kind, name = string.match(what, '^(%a+) (%S+)')
    if kind == 'account' or kind == 'family' then
      fill_seats(name)
    elseif kind == 'orphan' then
      -- A front end that was only frozen, or cut off for a while, may read it after all.
      local readers = redis.call('HGET', job_key(name), 'readers')
      if readers and not has_reader(readers) then cancel_job(name) end
    elseif redis.call('HGET', job_key(name), 'state') == 'waiting' then
      local lane, account, family, line_tag = fields(job_key(name), 'lane', 'account', 'family', 'line_tag')
      line_up(name, lane, account, family, line_tag)
      fill_seats(account)
    end
  end
end

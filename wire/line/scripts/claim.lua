-- Claim up to `want` jobs for a worker, and the leases to run them. Of the lanes that wait, the one
-- that holds least of what is reserved for it goes first; what one does not use, the other may.
-- ARGV: worker, how many, how many may run in all, lease, gap, settling time (ms), what is reserved.
-- Returns a list of {lane, id, attempt, account, family, readers, body}.
local worker, want, max_concurrency, lease, gap, settle = unpack(ARGV, 1, 6)
local reserves = cmsgpack.unpack(ARGV[7])

if undisturbed(tonumber(gap)) < tonumber(settle) then return {} end
wake_up()

local free = tonumber(max_concurrency)
local held = {}
for _, lane in ipairs(LANES) do
  held[lane] = redis.call('ZCARD', leases_key(lane))
  free = free - held[lane]
end
free = math.min(free, tonumber(want))
local open = open_for()
if open then free = (open > 0 or probe()) and 0 or math.min(free, 1) end

local function next_lane()
  local best, lowest
  for _, lane in ipairs(LANES) do
    local share = held[lane] / reserves[lane]
    if (not lowest or share < lowest) and redis.call('EXISTS', queue_key(lane)) == 1 then
      best, lowest = lane, share
    end
  end
  return best
end

local claimed = {}
while #claimed < free do
  local lane = next_lane()
  if not lane then break end
  local id, tag = unpack(redis.call('ZPOPMIN', queue_key(lane)))
  local state, account, family, readers, body, arrived, predicted, attempts, cost, alone =
    fields(job_key(id), 'state', 'account', 'family', 'readers', 'body', 'arrived', 'predicted', 'attempt',
      'cost', 'alone')
  if state ~= 'waiting' then
    -- Its record was evicted, say. Its seat is freed when it is needed, or found.
    redis.call('ZREM', waiting_key(lane), id)
    count('gateway_repairs_total', {what = 'record_lost'})
  elseif not has_reader(readers) and not orphan(id) then
    -- Its front end died, and its client with it. Should it only have been frozen, it finds the
    -- job forgotten and puts it in line again.
    close_job(id, 'cancelled', 'front_end_lost')
    count('gateway_repairs_total', {what = 'front_end_lost'})
    redis.call('DEL', job_key(id))
  else
    local moved = advance(lane_key(lane), shares_key(lane), tonumber(tag))
    count_out(id, lane, account, tonumber(cost))
    note_start(lane, account, moved, tonumber(cost), alone == '1')
    redis.call('SREM', queued_key(account), id)
    redis.call('ZADD', running_key(account), now, id)
    redis.call('ZADD', leases_key(lane), now + lease, id)
    -- Never the same number twice, even if Redis forgot the last claim in a crash.
    local attempt = math.max(now, tonumber(attempts) + 1)
    redis.call('HSET', job_key(id), 'state', 'running', 'attempt', attempt, 'worker', worker, 'claimed', now)
    if open then redis.call('HSET', BREAKER, 'probe', id) end
    fill_seats(account) -- the next of its jobs takes its place in the queue
    held[lane] = held[lane] + 1
    claimed[#claimed + 1] = {lane, id, attempt, account, family, readers, body}

    count('gateway_attempts_total', {lane = lane})
    if attempts == '0' then
      local waited = (now - tonumber(arrived)) / 1000
      observe('gateway_wait_seconds', {lane = lane}, waited)
      observe_eta({lane = lane}, tonumber(predicted) / 1000, waited)
    end
  end
end
return claimed

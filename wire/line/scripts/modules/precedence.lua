-- needs: fairness, hash, keys, queue, upstreams
-- Precedence of sorts and lanes at an upstream.
--
-- Of the sorts with jobs, the one that holds least of its reserve goes first; of those that hold the same part of
-- it, the one with less slot time so far while another one waited: so even a single slot is shared.
--
-- Lanes of a sort are ordered by start-time fair queueing (see `fairness`), each as a flow: a job that starts moves
-- its lane on by as much as it moves the lane's virtual clock. That clock shows what each key of the lane has had
-- of a fair share. So it is keys that get equal shares of an upstream, not lanes; a lane collects no credit while
-- it is idle; and what it gets at other upstreams does not count here.
local precedence = {}

-- True if a sort has had less slot time than another one, by their reserves.
local function had_less(upstream, sort, other, reserves)
  local had, others = hash.get(keys.precedence(upstream), 'had ' .. sort, 'had ' .. other)
  had, others = tonumber(had or 0) / reserves[sort], tonumber(others or 0) / reserves[other]
  return had < others or had == others and sort < other
end

-- The sort that comes first, of those in `ready`. `held`: number of running jobs, by sort.
function precedence.next_sort(upstream, ready, held)
  local reserves, best, lowest = upstreams.record(upstream).reserves, nil, nil
  for sort in pairs(ready) do
    if held[sort] < upstreams.most(upstream, sort) then
      local share = held[sort] / reserves[sort]
      if not best or share < lowest or share == lowest and had_less(upstream, sort, best, reserves) then
        best, lowest = sort, share
      end
    end
  end
  return best
end

-- Count the slot time (ms) that a sort has had at an upstream while another one waited.
function precedence.count_slot_time(upstream, sort, took)
  for other in pairs(upstreams.ready(upstream)) do
    if other ~= sort then
      redis.call('HINCRBYFLOAT', keys.precedence(upstream), 'had ' .. sort, took)
      return
    end
  end
end

-- Virtual time at which a job of a lane with this tag may start at an upstream: when what the lane had there
-- before it is paid for, or now.
local function start_of(upstream, lane, sort, tag)
  local now, at = hash.get(keys.precedence(upstream), 'now ' .. sort, 'at ' .. lane)
  now = tonumber(now or 0)
  if not at then
    at = now
    redis.call('HSET', keys.precedence(upstream), 'at ' .. lane, at)
  end
  return math.max(now, at + math.max(0, tag - fairness.now(lane)))
end

-- The one of these lanes of a sort that comes first.
function precedence.next_lane(upstream, sort, ready)
  if not upstreams.record(upstream).several then return ready[1] end
  local best, lowest
  for _, lane in ipairs(ready) do
    local start = start_of(upstream, lane, sort, queue.first_tag(lane) or 0)
    if not best or start < lowest or start == lowest and lane < best then best, lowest = lane, start end
  end
  return best
end

-- A job of a lane with this tag starts. To be called before the lane's clock is advanced.
function precedence.start(upstream, sort, lane, tag)
  if not upstreams.record(upstream).several then return end
  local start = start_of(upstream, lane, sort, tag)
  redis.call('HSET', keys.precedence(upstream), 'now ' .. sort, start, 'at ' .. lane, start)
end

return precedence

-- needs: accounts, breaker, keys, precedence, upstreams
-- Free slots of the upstreams that a claim is for, and the choice among them.
local openings = {}

-- Accounts of an upstream that take jobs now, with their free slots.
local function shared_accounts(upstream)
  local found, free = {}, 0
  for _, name in ipairs(redis.call('SMEMBERS', keys.accounts(upstream))) do
    local account = {name = name, cap = accounts.cap(name), free = accounts.free(name)}
    if account.free > 0 and not accounts.is_cooling(name) then
      found[#found + 1], free = account, free + account.free
    end
  end
  return found, free
end

-- Free slots of an upstream: their number, those that are held by sort, lanes with jobs by sort, its accounts
-- unless jobs run on their keys' own, and `probes`, if the next job is a probe. nil if there are none. `most` are
-- the jobs that the worker has room for.
local function of(upstream, most)
  local record = upstreams.record(upstream)
  if not record then return end
  local opening = {upstream = upstream, cap = upstreams.cap(upstream), running = 0, held = {}}
  for sort in pairs(record.reserves) do
    opening.held[sort] = upstreams.running(upstream, sort)
    opening.running = opening.running + opening.held[sort]
  end
  opening.free = opening.cap - opening.running
  local open = upstreams.open_for(upstream)
  if open then
    opening.probes = true
    if open > 0 or breaker.probe(upstream) then return end
  end
  if opening.free <= 0 then return end
  if not record.own then
    local free
    opening.accounts, free = shared_accounts(upstream)
    opening.free = math.min(opening.free, free)
  end
  opening.free = math.min(opening.free, most)
  opening.ready = upstreams.ready(upstream)
  return opening
end

-- Openings for a worker: `wants` are upstreams, each followed by the jobs that the worker has room for there.
function openings.at(wants)
  local found = {}
  for n = 1, #wants, 2 do found[#found + 1] = of(wants[n], tonumber(wants[n + 1])) end
  return found
end

-- The account with the largest part of its slots free, for a job of this lane; nil if there is none.
local function account_for(opening, lane)
  local best
  for _, account in ipairs(opening.accounts) do
    if account.free > 0 and (not best or account.free * best.cap > best.free * account.cap)
        and not accounts.is_parked(account.name, lane) then
      best = account
    end
  end
  return best
end

-- Look no more at a lane: none of its jobs can run at this upstream now.
function openings.skip(opening, sort, lane)
  local left = {}
  for _, other in ipairs(opening.ready[sort]) do
    if other ~= lane then left[#left + 1] = other end
  end
  opening.ready[sort] = #left > 0 and left or nil
end

-- The slot that is given away next: its opening, the sort and lane of its job, and the account unless the job
-- runs on its key's own. The upstream that holds the smallest part of its slots goes first.
function openings.next(all)
  while true do
    local best
    for _, opening in ipairs(all) do
      if opening.free > 0 and (not best or opening.running * best.cap < best.running * opening.cap) then
        best = opening
      end
    end
    if not best then return end
    local sort = precedence.next_sort(best.upstream, best.ready, best.held)
    if not sort then
      best.free = 0
    else
      local lane = precedence.next_lane(best.upstream, sort, best.ready[sort])
      local account = best.accounts and account_for(best, lane)
      if account or not best.accounts then return best, sort, lane, account end
      openings.skip(best, sort, lane)
    end
  end
end

-- Take slots for a job that needs several: their number; nil if not all are free. A job that needs more than the
-- upstream was seen to allow, or has by now, gets as many as it needs when no other runs there.
function openings.take(opening, sort, account, needed)
  needed = account and needed or 1
  if math.min(needed, opening.cap) > opening.free or account and math.min(needed, account.cap) > account.free then
    opening.free = 0 -- the others are kept free for this job
    return
  end
  opening.running, opening.held[sort] = opening.running + needed, opening.held[sort] + needed
  opening.free = opening.probes and 0 or opening.free - needed
  if account then account.free = account.free - needed end
  return needed
end

return openings

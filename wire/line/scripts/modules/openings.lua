-- needs: accounts, breaker, lanes, precedence, upstreams
-- Free slots of the upstreams that a claim is for, and the choice among them.
local openings = {}

-- Shared accounts of an upstream that are neither set aside nor paused, with the slots that each has, and has free now;
-- and the sums of both, with the jobs that still run on paused ones.
local function shared_accounts(upstream)
  local found, sum, free = {}, 0, 0
  for _, name in ipairs(upstreams.accounts(upstream)) do
    local cap, aside = accounts.cap(name)
    local cooling = accounts.is_cooling(name)
    if accounts.is_paused(name) then
      sum = sum + cap - accounts.free(name, cap)
    elseif not (aside and cooling) then
      local account = {name = name, cap = cap, free = cooling and 0 or math.max(0, accounts.free(name, cap))}
      found[#found + 1], sum, free = account, sum + cap, free + account.free
    end
  end
  return found, sum, free
end

-- Free slots of an upstream: their number, those that are held by sort, lanes with jobs by sort, its shared
-- accounts, and `probes`, if the next job is a probe. nil if there are none. `most` are the jobs that the worker has
-- room for.
local function of(upstream, most)
  local record = upstreams.record(upstream)
  if not record or upstreams.is_paused(upstream) then return end
  local shared, sum, free = shared_accounts(upstream)
  local opening = {upstream = upstream, cap = upstreams.cap(upstream, sum), running = 0, held = {}, accounts = shared}
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
  if not record.own then opening.free = math.min(opening.free, free) end
  if opening.free <= 0 then return end
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

-- Slots of the largest account that may run jobs of this lane, when it has some free.
local function largest(opening, lane)
  local most = 0
  for _, account in ipairs(opening.accounts) do
    if not accounts.is_parked(account.name, lanes.model(lane)) then most = math.max(most, account.cap) end
  end
  return most
end

-- The account with the largest part of its slots free, for a job of this lane that needs some; nil if none has as
-- many free. A job that needs more than any account has gets all of a largest one.
local function account_for(opening, lane, needed)
  local best
  local least = needed > 1 and math.min(needed, largest(opening, lane)) or 1
  for _, account in ipairs(opening.accounts) do
    if account.cap >= least and account.free >= math.min(needed, account.cap)
        and (not best or account.free * best.cap > best.free * account.cap)
        and not accounts.is_parked(account.name, lanes.model(lane)) then
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

-- The slot that is given away next: its opening, the sort and lane of its job, and the account unless it is the
-- key's own. The upstream that holds the smallest part of its slots goes first.
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
      local own = lanes.is_own(lane)
      local account = not own and account_for(best, lane, 1)
      if own or account then return best, sort, lane, account end
      openings.skip(best, sort, lane)
    end
  end
end

-- Take the slots that a job of a lane needs: their number, and the account unless it is the key's own; nil if not
-- all are free. They are those of one account: of the given one, unless the job needs several. A job that needs more
-- than any account, or the upstream, has by now gets as many as it needs when no other runs there.
function openings.take(opening, sort, lane, account, needed)
  local own = lanes.is_own(lane)
  if own then
    needed = 1
  elseif needed > 1 then
    account = account_for(opening, lane, needed)
  end
  if math.min(needed, opening.cap) > opening.free or not own and not account then
    opening.free = 0 -- the others are kept free for this job
    return
  end
  opening.running, opening.held[sort] = opening.running + needed, opening.held[sort] + needed
  opening.free = opening.probes and 0 or opening.free - needed
  if account then account.free = account.free - needed end
  return needed, account and account.name
end

return openings

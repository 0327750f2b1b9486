-- needs: keys, upstreams, vocabulary
-- An upstream, as operators see it. ARGV: its name, most lanes and accounts to be returned. Returns {1 if live workers
-- serve it, max_concurrency, slots, those that are held, time for which its circuit stays open in ms (-1: it is
-- closed), number of its lanes, some lanes, {{lane with waiting jobs, keys that wait there}, ...} with the most keys first,
-- number of its shared accounts, some of these}.
local name, most = ARGV[1], tonumber(ARGV[2])

local AT_ONCE = 50 -- lanes that are looked at in one command: most of thousands have no jobs

local function first(members)
  local found = {}
  table.sort(members)
  for n = 1, math.min(#members, most) do found[n] = members[n] end
  return found
end

-- Lanes with waiting jobs, each with the number of keys that wait there.
local function busy(lanes)
  local found = {}
  for from = 1, #lanes, AT_ONCE do
    local some = {unpack(lanes, from, math.min(#lanes, from + AT_ONCE - 1))}
    local names = {}
    for n, lane in ipairs(some) do names[n] = keys.backlog(lane) end
    if redis.call('EXISTS', unpack(names)) > 0 then
      for n, lane in ipairs(some) do
        local number = redis.call('ZCARD', names[n])
        if number > 0 then found[#found + 1] = {lane, number} end
      end
    end
  end
  table.sort(found, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
  return found
end

local record, slots, held = upstreams.record(name), 0, 0
if record then slots = upstreams.slots(name) end
for _, sort in ipairs(vocabulary.sorts) do held = held + upstreams.running(name, sort) end
local lanes, accounts = redis.call('SMEMBERS', keys.serves(name)), upstreams.accounts(name)
local waiting = busy(lanes)
return {upstreams.is_served(name) and 1 or 0, record and record.cap or 0, slots, held, upstreams.open_for(name) or -1,
  #lanes, first(lanes), {unpack(waiting, 1, math.min(#waiting, most))}, #accounts, first(accounts)}

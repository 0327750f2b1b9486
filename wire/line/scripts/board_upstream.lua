-- needs: keys, upstreams, vocabulary
-- An upstream, as operators see it. ARGV: its name, most lanes and accounts to be returned. Returns {1 if live workers
-- serve it, max_concurrency, slots, those that are held, time for which its circuit stays open in ms (-1: it is
-- closed), number of its lanes, some lanes, {{lane with waiting jobs, keys that wait there}, ...} with the most keys first,
-- number of its shared accounts, some of these}.
local name, most = ARGV[1], tonumber(ARGV[2])

local LOOKED_AT = 1000 -- lanes, besides those with jobs that may be claimed
local AT_ONCE = 50     -- lanes that are looked at in one command: most have no jobs

local function some(members)
  local found = {unpack(members, 1, math.min(#members, most))}
  table.sort(found)
  return found
end

-- Lanes with waiting jobs, each with the number of keys that wait there.
local function busy(lanes)
  local found, known = {}, {}
  local function add(lane, number)
    if number > 0 and not known[lane] then found[#found + 1], known[lane] = {lane, number}, true end
  end
  for _, lane in ipairs(redis.call('SINTER', keys.ready, keys.serves(name))) do
    add(lane, redis.call('ZCARD', keys.backlog(lane)))
  end
  for from = 1, math.min(#lanes, LOOKED_AT), AT_ONCE do
    local part, names = {unpack(lanes, from, math.min(#lanes, from + AT_ONCE - 1))}, {}
    for n, lane in ipairs(part) do names[n] = keys.backlog(lane) end
    if redis.call('EXISTS', unpack(names)) > 0 then
      for n, lane in ipairs(part) do add(lane, redis.call('ZCARD', names[n])) end
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
  #lanes, some(lanes), {unpack(waiting, 1, math.min(#waiting, most))}, #accounts, some(accounts)}

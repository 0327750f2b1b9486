-- needs: hash, jobs, keys, line
-- The jobs of a key that was revoked. ARGV: key, 1 if its running jobs have to end, maximum number of jobs.
-- Has the workers end those, and returns {number of its other jobs, {id, readers}, ...}: the waiting ones, which the
-- caller has to finish.
local key, ends_running, limit = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])

local waiting = {}
local function add(id)
  local its_key, state, readers = hash.get(keys.job(id), 'key', 'state', 'readers')
  if its_key == key and state == 'waiting' and #waiting < limit then waiting[#waiting + 1] = {id, readers} end
end
for _, id in ipairs(redis.call('SMEMBERS', keys.queued(key))) do add(id) end
for _, its_line in ipairs(redis.call('SMEMBERS', keys.lines(key))) do
  local name = keys.line(key, string.match(its_line, '^(%S+) (%S+)'))
  for _, id in ipairs(redis.call('ZRANGE', name, 0, limit - 1)) do add(id) end
end
if #waiting < math.min(line.number_of(key), limit) then -- the others are tried again at a later time
  for _, entry in ipairs(redis.call('ZRANGE', keys.later, 0, -1)) do
    local id = string.match(entry, '^job (%S+)')
    if id then add(id) end
  end
end

local running = redis.call('ZRANGE', keys.running(key), 0, -1)
for _, id in ipairs(ends_running and running or {}) do
  if redis.call('HGET', keys.job(id), 'cancel') ~= 'revoked' then jobs.cancel(id, 'revoked') end
end
return {line.number_of(key) - #waiting + #running, unpack(waiting)}

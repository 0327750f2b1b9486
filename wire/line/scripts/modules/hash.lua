-- Fields of Redis hashes as Lua values.
local hash = {}

-- Some fields, as several results.
function hash.get(name, ...)
  return unpack(redis.call('HMGET', name, ...), 1, select('#', ...))
end

-- Some fields as a table.
function hash.some(name, ...)
  local values, record = redis.call('HMGET', name, ...), {}
  for i, field in ipairs({...}) do record[field] = values[i] or nil end
  return record
end

-- All fields as a table, which is empty if there is no such name.
function hash.all(name)
  local flat, record = redis.call('HGETALL', name), {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

return hash

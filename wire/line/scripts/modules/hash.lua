-- Fields of Redis hashes as Lua values.
local hash = {}

-- Some fields, as several results.
function hash.get(key, ...)
  return unpack(redis.call('HMGET', key, ...), 1, select('#', ...))
end

-- Some fields as a table.
function hash.some(key, ...)
  local values, record = redis.call('HMGET', key, ...), {}
  for i, field in ipairs({...}) do record[field] = values[i] or nil end
  return record
end

-- All fields as a table, which is empty if there is no such key.
function hash.all(key)
  local flat, record = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

return hash

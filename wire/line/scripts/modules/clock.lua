-- The time of Redis, the same for the whole run of a script. Tests replace this module.
local seconds, micros = unpack(redis.call('TIME'))
return {
  now = seconds * 1000 + math.floor(micros / 1000), -- ms
  micros = tonumber(micros),
}

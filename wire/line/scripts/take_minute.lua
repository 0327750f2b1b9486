-- needs: clock, hash, keys
-- Take the recording of the present minute. Returns its number since 1970 (0: another process has taken it), the time
-- until the next one (ms), and the record of the last recording ('': there is none).
local minute, taken, before = math.floor(clock.now / 60000), hash.get(keys.history, 'taken', 'before')
local left = (minute + 1) * 60000 - clock.now
if taken and tonumber(taken) == minute then return {0, left, ''} end
redis.call('HSET', keys.history, 'taken', minute)
return {minute, left, before or ''}

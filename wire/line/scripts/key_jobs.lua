-- needs: keys, line
-- Numbers of the waiting and running jobs of keys. ARGV: the keys. Returns {{waiting, running}, ...}.
local found = {}
for i, key in ipairs(ARGV) do found[i] = {line.number_of(key), redis.call('ZCARD', keys.running(key))} end
return found

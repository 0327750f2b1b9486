-- needs: keys, line
-- Store the record of a gateway key, and apply its limits to the jobs of the key that wait already.
-- ARGV: id, the present record or '' if there must be none, the new record, name of the key in the line.
-- Returns 1, or 0 if the present record is another one.
local id, present, new, key = unpack(ARGV)

if (redis.call('GET', keys.issued(id)) or '') ~= present then return 0 end
redis.call('SET', keys.issued(id), new)
redis.call('SADD', keys.keyring, id)
local issued = cjson.decode(new)
if issued.revoked > 0 then redis.call('SADD', keys.revoked, id) end -- front ends end its jobs
if redis.call('EXISTS', keys.key(key)) == 1 then
  redis.call('HSET', keys.key(key), 'cap', issued.max_running, 'weight', issued.weight)
  line.reseat(key)
end
return 1

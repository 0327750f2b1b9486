-- needs: keys, line, pauses
-- An operator pauses the intake of all jobs or of a key's, an upstream, or an account; or changes the end of a pause.
-- ARGV: 'all', 'key', 'upstream' or 'account'; its name, '' for all; who pauses it; time (ms), '' without an end.
-- Returns {'paused', 'already', 'unknown' or 'too_many', the pause as it is stored, if it is}.
local what, name, by, ms = unpack(ARGV)

local known = what ~= 'upstream' and what ~= 'account' or pauses.is_set(what, name)
  or what == 'upstream' and redis.call('SISMEMBER', keys.upstreams, name) == 1
  or what == 'account' and redis.call('EXISTS', keys.account(name)) == 1
if not known then return {'unknown'} end
local result = pauses.set(what, name, by, tonumber(ms))
if result == 'paused' and what == 'account' then
  line.unseat(name) -- if it is a key's own; its jobs on other accounts may take the seats
  line.fill_seats(name)
end
return {result, redis.call('HGET', keys.pauses, what .. ' ' .. name)}

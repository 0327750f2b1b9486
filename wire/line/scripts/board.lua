-- needs: clock, keys, pulse, upstreams, vocabulary
-- The line as a whole. ARGV: gap (ms). Returns {now, time for which the line settles (both in ms), waiting jobs, names
-- of the upstreams}. Operators see it with what the other scripts `board_...` return, each of which takes Redis little
-- time, however long the line is.
local waiting = 0
for _, sort in ipairs(vocabulary.sorts) do waiting = waiting + redis.call('ZCARD', keys.waiting(sort)) end
return {clock.now, pulse.settling(tonumber(ARGV[1])), waiting, upstreams.all()}

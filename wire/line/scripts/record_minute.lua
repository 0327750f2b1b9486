-- needs: durations, keys
-- Record a minute. ARGV: the record for the next recording, then, unless there is none for this minute, its field in
-- the history and its figures.
redis.call('HSET', keys.history, 'before', unpack(ARGV))
redis.call('PEXPIRE', keys.history, durations.DAY)

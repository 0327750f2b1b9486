-- needs: clock
-- Note a conversation that is to be deleted. KEYS: the set, the record. ARGV: id, time until it is due
-- (ms), lifetime of the record (ms), record.
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], clock.now + ARGV[2], ARGV[1])

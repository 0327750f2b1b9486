-- needs: clock
-- Postpone the deletion of a conversation. KEYS: the set. ARGV: id, time until it is due (ms).
redis.call('ZADD', KEYS[1], 'XX', clock.now + ARGV[2], ARGV[1])

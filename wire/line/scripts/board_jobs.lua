-- needs: forecast, hash, keys, why
-- Jobs, as operators see them. ARGV: limits, names of the fields to be returned (both as msgpack), ids. Returns {{id, the
-- fields, place, wait (ms), why it waits, until when (ms) or ''}, ...}, with place 0 if it is not waiting; without the
-- jobs that are not known.
local limits, fields = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

local found = {}
for n = 3, #ARGV do
  local id = ARGV[n]
  local record = redis.call('HMGET', keys.job(id), unpack(fields))
  local job = hash.some(keys.job(id), 'state', 'lane', 'key', 'family', 'account')
  if job.key then -- else a record that only keeps a job out
    local place, wait, word, until_ = 0, 0, '', ''
    if job.state == 'waiting' then
      place, wait = forecast.of(id, limits)
      word, until_ = why.of(id, job, redis.call('ZSCORE', keys.queue(job.lane), id), limits.gap)
    end
    found[#found + 1] = {id, record, place, wait, word, until_ or ''}
  end
end
return found

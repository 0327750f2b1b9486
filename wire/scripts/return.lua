-- Hand a claimed job back, untouched, to its old place (a worker that stops). ARGV: id, attempt.
-- Returns 1; 0 when this attempt is not the current one; -1 when the job was cancelled meanwhile, so
-- that it has to be ended instead.
local id, attempt = unpack(ARGV)

local state, current, published, cancel =
  fields(job_key(id), 'state', 'attempt', 'published', 'cancel')
if state ~= 'running' or current ~= attempt or published then return 0 end
if cancel then return -1 end
put_back(id, 'handed_back')
return 1

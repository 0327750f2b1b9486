-- Hand a claimed job back, untouched, to its old place (a worker that stops). ARGV: id, attempt.
-- Returns 1 or 0.
local id, attempt = unpack(ARGV)

local state, current, published = fields(job_key(id), 'state', 'attempt', 'published')
if state ~= 'running' or current ~= attempt or published then return 0 end
put_back(id, 'handed_back')
return 1

-- needs: jobs
-- Requeue a claimed job, untouched, in its old place. ARGV: id, attempt.
-- Returns 'requeued', or the reason against it (`jobs.obstacle`).
local id, attempt = unpack(ARGV)

local obstacle = jobs.obstacle(id, attempt)
if obstacle then return obstacle end
jobs.requeue(id, 'handed_back')
return 'requeued'

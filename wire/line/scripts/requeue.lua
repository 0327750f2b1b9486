-- Hand a claimed job back, untouched, to its old place (a worker that stops). ARGV: id, attempt.
-- Returns 'requeued', or what stands against it (`obstacle`).
local id, attempt = unpack(ARGV)

local no = obstacle(id, attempt)
if no then return no end
put_back(id, 'handed_back')
return 'requeued'

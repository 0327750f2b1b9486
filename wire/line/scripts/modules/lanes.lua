-- Lanes: each is named for the sort of its jobs, or `<sort>:<model>`.
local lanes = {}

lanes.MAIN = 'main' -- the upstream of all lanes, so far

function lanes.sort(lane) return string.match(lane, '^[^:]+') end

return lanes

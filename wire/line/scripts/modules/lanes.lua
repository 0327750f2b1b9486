-- Lanes: each is named for the sort of its jobs, or `<sort>:<model>`.
local lanes = {}

function lanes.sort(lane) return string.match(lane, '^[^:]+') end

return lanes

-- Lanes: each is named for the sort of its jobs, or `<sort>:<model>`. Jobs of the former run on their keys' own
-- accounts, jobs of the latter on accounts that all keys share.
local lanes = {}

function lanes.sort(lane) return string.match(lane, '^[^:]+') end

-- The model of a lane, or its family of models; nil if its jobs run on their keys' own accounts.
function lanes.model(lane) return string.match(lane, ':(.*)$') end
function lanes.is_own(lane) return not lanes.model(lane) end

return lanes

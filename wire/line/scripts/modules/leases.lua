-- needs: accounts, keys, lanes
-- Leases of running jobs: each is the right to hold one slot of an upstream, and one of the account, until a time.
-- The first lease of a job has its id as name; if it holds several, the others are `<id> <n>`.
local leases = {}

-- Fields of a job's record that name its leases: `leased` is their number, if there are several.
leases.FIELDS = {'upstream', 'lane', 'account', 'leased'}

local function each(id, job, act)
  local name = keys.leases(job.upstream, lanes.sort(job.lane))
  act(name, id)
  for n = 2, tonumber(job.leased or 1) do act(name, id .. ' ' .. n) end
end

-- The job that a lease belongs to.
function leases.job(name) return string.match(name, '^%S+') end

-- Make or renew the leases of a running job, until a time (ms).
function leases.hold(id, job, until_)
  each(id, job, function(name, lease)
    redis.call('ZADD', name, until_, lease)
    accounts.hold(job.account, lease)
  end)
end

-- End the leases of a job.
function leases.release(id, job)
  each(id, job, function(name, lease)
    redis.call('ZREM', name, lease)
    accounts.release(job.account, lease)
  end)
end

return leases

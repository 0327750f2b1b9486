-- The names of the keys. Every script of the line is called with the secret's fingerprint as its
-- first argument, which is taken away here; what a script describes as its arguments follows.

local FINGERPRINT = table.remove(ARGV, 1)

local LANES = {'chat', 'images'}
local ENDED_TTL = 60000 -- ms that an ended job stays, for a front end that missed its ending
local MINUTE, DAY = 60000, 86400000

local LATER = 'gateway:later'     -- what begins again at a moment: 'account <a>', 'family <a> <f>', 'job <id>', 'orphan <id>'
local BREAKER = 'gateway:breaker'
local LIMITED = 'gateway:limited'     -- accounts that may hold fewer than their cap
local REPAIRED = 'gateway:repaired'   -- how much had to be put right a moment ago
local SERVICE = 'gateway:service'
local BYTES = 'gateway:bytes'         -- of all jobs that have not ended
local FINGERPRINTS = 'gateway:fingerprints' -- of live workers, whose keys differ
local WORKERS = 'gateway:workers:' .. FINGERPRINT

local function queue_key(lane) return 'arq:queue:' .. lane .. ':' .. FINGERPRINT end
local function leases_key(lane) return 'gateway:leases:' .. lane end
local function waiting_key(lane) return 'gateway:waiting:' .. lane end
local function backlog_key(lane) return 'gateway:backlog:' .. lane end
local function work_key(lane) return 'gateway:work:' .. lane end
local function lane_key(lane) return 'gateway:lane:' .. lane end
local function shares_key(lane) return 'gateway:shares:' .. lane end
local function promises_key(lane) return 'gateway:promises:' .. lane end
local function outside_key(lane) return 'gateway:outside:' .. lane end

local function account_key(account) return 'gateway:account:' .. account end
local function lines_key(account) return 'gateway:lines:' .. account end
local function line_key(account, lane, family) return 'gateway:line:' .. account .. ':' .. lane .. ':' .. family end
local function queued_key(account) return 'gateway:queued:' .. account end
local function running_key(account) return 'gateway:running:' .. account end
local function users_key(account) return 'gateway:users:' .. account end
local function promised_key(account) return 'gateway:promised:' .. account end

local function job_key(id) return 'gateway:job:' .. id end
local function log_key(id) return 'gateway:log:' .. id end
local function front_key(front) return 'gateway:front:' .. front end
local function worker_channel(worker) return 'gateway:worker:' .. worker end

local function nudge() redis.call('PUBLISH', 'gateway:nudge:' .. FINGERPRINT, '') end

-- Publish the pairs of channel and frame at the end of ARGV, the first of them at `from`.
local function publish(from)
  for i = from, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
end

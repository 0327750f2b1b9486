-- needs: keys
local channels = {}

-- Wake the workers: there may be something to claim.
function channels.nudge() redis.call('PUBLISH', keys.nudge, '') end

-- Publish the pairs of channel and frame at the end of ARGV, the first of them at index `from`.
function channels.publish(from)
  for i = from, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
end

-- Send a command to a worker; wire/line/commands.py describes the commands. Returns 0 if it does not listen.
function channels.command(worker, command)
  return redis.call('PUBLISH', keys.worker(worker), cmsgpack.pack(command))
end

return channels

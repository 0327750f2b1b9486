-- needs: keys, vocabulary
-- Events are counted by the script that causes them, so they are counted once for the whole gateway,
-- however many processes there are and whichever of them die.
--
-- One hash holds all numbers; its fields are the names of Prometheus samples. Buckets are not
-- cumulative here (one increment per observation), and their sum is the count. wire/line/metrics.py
-- describes every metric and every word that its labels may hold, and reads the hash.
local metrics = {}

local RATIO_FROM = 5 -- seconds; of a shorter wait, an error of a second would be most of it

-- `lane="chat",reason="done"`: sorted by name, so that each set of labels is one field.
local function label_text(labels)
  local names, parts = {}, {}
  for name in pairs(labels) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = tostring(labels[name])
    -- Anything but a plain word might be a secret, and could break the syntax.
    if not string.find(value, '^[%l%d_]+$') then value = 'other' end
    parts[i] = name .. '="' .. value .. '"'
  end
  return table.concat(parts, ',')
end

-- pcall: a number that cannot be stored (Redis is full) must not leave a change half done.
local function add(sample, labels, command, by)
  redis.pcall(command, keys.metrics, sample .. '{' .. labels .. '}', by)
end

-- metrics.count('gateway_endings_total', {lane = lane, reason = 'done'})
function metrics.count(name, labels, by)
  add(name, label_text(labels), 'HINCRBY', by or 1)
end

-- metrics.observe('gateway_wait_seconds', {lane = lane}, (clock.now - arrived) / 1000)
function metrics.observe(name, labels, value)
  value = math.max(value, 0) -- Redis' clock may have been set back, and a sum never shrinks
  local text, le = label_text(labels), '+Inf'
  for _, bound in ipairs(vocabulary.bounds[name]) do
    if value <= bound then le = tostring(bound) break end
  end
  add(name .. '_bucket', text .. ',le="' .. le .. '"', 'HINCRBY', 1)
  add(name .. '_sum', text, 'HINCRBYFLOAT', string.format('%.6f', value))
end

-- Record the error of a forecast; both waits are in seconds.
function metrics.observe_forecast(labels, predicted, actual)
  local off = math.abs(predicted - actual)
  metrics.observe('gateway_eta_error_seconds', labels, off)
  if actual >= RATIO_FROM then metrics.observe('gateway_eta_error_ratio', labels, off / actual) end
end

return metrics

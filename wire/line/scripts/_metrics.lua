-- Shared by every script of the queue: what happens to jobs is counted where it happens, so it is
-- counted once for the whole gateway, however many processes there are and whichever of them die.
--
-- One hash holds all numbers; its fields are the names of Prometheus' samples. Buckets are not
-- cumulative here (one increment per observation), and their sum is the count. wire/line/metrics.py
-- describes every metric and every word that its labels may hold, and reads the hash.

local METRICS = 'gateway:metrics'

local BOUNDS = {
  gateway_wait_seconds = {0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600},
  gateway_first_token_seconds = {0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120},
  gateway_service_seconds = {0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900},
  gateway_eta_error_seconds = {0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300},
  gateway_eta_error_ratio = {0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5},
}

local RATIO_FROM = 5 -- seconds; of a shorter wait, an error of a second would be most of it

-- `lane="chat",reason="done"`: by name, so that each set of labels is one field.
local function label_text(labels)
  local names, parts = {}, {}
  for name in pairs(labels) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = tostring(labels[name])
    -- Whatever is no plain word might be somebody's secret, and could break the syntax.
    if not string.find(value, '^[%l%d_]+$') then value = 'other' end
    parts[i] = name .. '="' .. value .. '"'
  end
  return table.concat(parts, ',')
end

-- pcall: a number that cannot be kept (Redis is full) must not leave a change half done.
local function add(sample, labels, command, by)
  redis.pcall(command, METRICS, sample .. '{' .. labels .. '}', by)
end

-- count('gateway_endings_total', {lane = lane, reason = 'done'})
local function count(name, labels, by)
  add(name, label_text(labels), 'HINCRBY', by or 1)
end

-- observe('gateway_wait_seconds', {lane = lane}, (now - arrived) / 1000)
local function observe(name, labels, value)
  value = math.max(value, 0) -- Redis' clock may have been set back, and a sum never shrinks
  local text, le = label_text(labels), '+Inf'
  for _, bound in ipairs(BOUNDS[name]) do
    if value <= bound then le = tostring(bound) break end
  end
  add(name .. '_bucket', text .. ',le="' .. le .. '"', 'HINCRBY', 1)
  add(name .. '_sum', text, 'HINCRBYFLOAT', string.format('%.6f', value))
end

-- How well a wait was foretold; both in seconds.
local function observe_eta(labels, predicted, actual)
  local off = math.abs(predicted - actual)
  observe('gateway_eta_error_seconds', labels, off)
  if actual >= RATIO_FROM then observe('gateway_eta_error_ratio', labels, off / actual) end
end

-- Pages of several sorted sets that are read as one, in the order of their scores, however long they are.
local pages = {}

local STEPS = 60 -- of a search by halves, which then has found a score to the last bit, about

local function exactly(number) return string.format('%.17g', number) end

-- Number of members below a score in a set, and in all of them.
local function below(name, score) return redis.call('ZCOUNT', name, '-inf', '(' .. exactly(score)) end
local function all_below(names, score)
  local sum = 0
  for _, name in ipairs(names) do sum = sum + below(name, score) end
  return sum
end

-- Lowest and highest score.
local function range(names)
  local low, high = math.huge, -math.huge
  for _, name in ipairs(names) do
    local first, last = redis.call('ZRANGE', name, 0, 0, 'WITHSCORES'), redis.call('ZRANGE', name, -1, -1, 'WITHSCORES')
    if #first > 0 then low, high = math.min(low, first[2]), math.max(high, last[2]) end
  end
  return low, high
end

-- The highest score below which there are no more than `offset` members.
local function score_at(names, offset)
  local low, high = range(names)
  if low == math.huge or all_below(names, high) <= offset then return high end
  for _ = 1, STEPS do
    local middle = low + (high - low) / 2
    if middle == low or middle == high then break end
    if all_below(names, middle) <= offset then low = middle else high = middle end
  end
  return low
end

-- Some members, in order, after the first `offset` of them.
function pages.of(names, offset, limit)
  local score, found, ids = score_at(names, offset), {}, {}
  if score == -math.huge then return ids end
  local passed = offset - all_below(names, score)
  for _, name in ipairs(names) do
    local rank = below(name, score)
    local members = redis.call('ZRANGE', name, rank, rank + passed + limit - 1, 'WITHSCORES')
    for i = 1, #members, 2 do found[#found + 1] = {id = members[i], score = tonumber(members[i + 1])} end
  end
  table.sort(found, function(a, b) return a.score < b.score or a.score == b.score and a.id < b.id end)
  for n = passed + 1, math.min(#found, passed + limit) do ids[#ids + 1] = found[n].id end
  return ids
end

return pages

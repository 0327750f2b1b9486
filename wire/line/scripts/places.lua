-- needs: forecast
-- Places of many jobs. ARGV: limits, ids. Returns the place and the wait (ms) of each, one after the
-- other; a place of 0 if it is not waiting.
local limits = cmsgpack.unpack(ARGV[1])
local found = {}
for i = 2, #ARGV do
  found[#found + 1], found[#found + 2] = forecast.of(ARGV[i], limits)
end
return found

-- needs: metrics
-- Count events that front ends have seen. ARGV: a list of {name, labels, number}, as msgpack.
for _, event in ipairs(cmsgpack.unpack(ARGV[1])) do metrics.count(unpack(event)) end

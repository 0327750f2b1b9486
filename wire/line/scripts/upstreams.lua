-- needs: hash, keys, upstreams
-- All upstreams that workers have described lately: {{name, 1 if jobs run on their keys' own accounts, max_concurrency,
-- its description as msgpack, what front ends are to know, time for which its circuit stays open in ms, or -1}, ...}.
local found = {}
for _, name in ipairs(upstreams.all()) do
  local own, max_concurrency, described, about =
    hash.get(keys.upstream(name), 'own', 'max_concurrency', 'described', 'about')
  if described then
    found[#found + 1] = {name, tonumber(own), tonumber(max_concurrency), described, about,
      upstreams.open_for(name) or -1}
  end
end
return found

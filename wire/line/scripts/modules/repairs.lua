-- needs: line, metrics
-- Repairs that this run of a script makes.
local repairs = {made = 0}

-- Count one.
function repairs.count(what)
  repairs.made = repairs.made + 1
  metrics.count('gateway_repairs_total', {what = what})
end

-- Note that a job has got back its seat, which may have been given to another meanwhile.
function repairs.seat_found(key)
  line.unseat(key)
  line.fill_seats(key)
  repairs.count('seat_lost')
end

return repairs

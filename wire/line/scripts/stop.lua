-- needs: hash, jobs, keys
-- An operator cancels a job: a running one through its worker. A waiting one is left to the caller, who has an ending
-- for its readers. ARGV: id. Returns {state of the job, or 'already' if an operator has cancelled it, or 'unknown';
-- its readers}.
local id = ARGV[1]

local state, readers, cancel = hash.get(keys.job(id), 'state', 'readers', 'cancel')
if not readers then return {'unknown', ''} end -- or it is not to be admitted, and that is all
if state == 'running' then
  if cancel == 'operator' then return {'already', readers} end
  jobs.cancel(id, 'operator')
end
return {state, readers}

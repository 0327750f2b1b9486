-- needs: allowance
-- Allowance of an issued key. ARGV: its id. Changes nothing.
-- Returns {reason for which its next job would be refused now or '', retry time in ms from now, 0 if the client
-- should not retry by itself}, and for a key with a limit of requests {..., limit a minute, those left, time in ms
-- until all are free again}.
local issued = allowance.record(ARGV[1])
local reason, wait, retry = allowance.refusal(issued)
return {reason or '', math.ceil(wait or 0), retry == false and 0 or 1, allowance.left(issued)}

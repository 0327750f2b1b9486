-- needs: line
-- An operator ends a pause. ARGV: what is paused, and its name. Returns 1, or 0 if it is not paused.
return line.resume(ARGV[1], ARGV[2]) and 1 or 0

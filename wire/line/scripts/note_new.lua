-- needs: keys, pulse
-- Note that this Redis was created just now, with an empty folder of its own, and has no other clients yet.
-- Does nothing if it has had some.
if redis.call('EXISTS', keys.pulse) == 0 then pulse.note_new() end

"""HTTP as both kinds of upstream need it: sessions, bodies of answers, events, failures."""

-- Lifetimes, in milliseconds.
return {
  FINISHED = 60000, -- a finished job is kept this long, for a front end that missed its ending
  MINUTE = 60000,
  HOUR = 3600000,
  DAY = 86400000,
}

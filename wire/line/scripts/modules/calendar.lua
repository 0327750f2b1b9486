-- needs: clock, durations
-- The day and the month of now, in UTC: Redis offers scripts no calendar.
local calendar = {}

local today

-- `2026-11-28`, in the Gregorian calendar. Years begin in March here, so that a leap day is their last day.
function calendar.day()
  if today then return today end
  local floor = math.floor
  local days = floor(clock.now / durations.DAY) + 719468 -- since March 1st of the year 0
  local era = floor(days / 146097)
  local of_era = days - 146097 * era
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * of_year + 2) / 153)
  local day = of_year - floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  today = string.format('%04d-%02d-%02d', year + 400 * era + (month <= 2 and 1 or 0), month, day)
  return today
end

-- `2026-11`
function calendar.month() return string.sub(calendar.day(), 1, 7) end

-- Time (ms) until the day ends, and until the month does.
function calendar.left_of_day() return durations.DAY - clock.now % durations.DAY end
function calendar.left_of_month()
  local year, month, day = string.match(calendar.day(), '(%d+)-(%d+)-(%d+)')
  local is_leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  local lengths = {31, is_leap and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
  return (lengths[tonumber(month)] - day) * durations.DAY + calendar.left_of_day()
end

return calendar

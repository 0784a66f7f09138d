redis.pcall('PEXPIRE', KEYS[1], 8640000000)

local function number(n) return string.format('%.0f', n) end
local function text(head, list)
  for i = 1, #list do head = head .. ' ' .. number(list[i]) end
  return head
end
local function parse(s, head, len)
  if #s > 255 then return nil end
  local list = {}
  for d in string.gmatch(s, '%d+') do list[#list + 1] = tonumber(d) end
  table.remove(list, 1) -- that of the head
  if #list ~= len then return nil end
  for i = 1, len do
    if list[i] >= 2^53 then return nil end
  end
  if text(head, list) ~= s then return nil end
  return list
end
local function look(...)
  local found = redis.pcall(...)
  if type(found) ~= 'table' then return found end
  if string.sub(found.err, 1, 9) == 'WRONGTYPE' then return false end
  return false, found
end
local function last(m) return math.max(m[1], m[2], m[3]) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local latest = now + 86400000000
local function sound(e)
  return e and e[1] > 0 and e[9] <= 1 and math.max(e[2], e[3]) <= latest and math.max(e[4], e[5], e[6], e[7]) <= e[3]
end
local function put(e) redis.call('SET', KEYS[1], text('e1', e), 'PX', 8640000000) end

local raw, failed = look('GETRANGE', KEYS[1], 0, 255)
if failed then return failed end
local hash = false
if KEYS[2] then
  hash, failed = look('HGET', KEYS[2], '')
  if failed then return failed end
end
local knownEra, knownTick, knownClock = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if math.max(knownTick, knownClock) > latest then knownEra, knownTick, knownClock = '0', 0, 0 end

local e = parse(raw or '', 'e1', 9)
local found = sound(e) and e[2] or 0
if not sound(e) or knownTick - e[2] > 10000000 then
  local clock = math.max(now, knownClock + 1)
  e = {tonumber(ARGV[4]), 0, clock, clock, 0, 0, 0, 0, 0}
else
  if number(e[1]) == knownEra then e[3] = math.max(e[3], knownClock) end
  if KEYS[2] and e[9] == 1 and hash ~= number(e[1]) then
    e[3] = math.max(e[3] + 1, now)
    e[4] = e[3]
    e[9] = 0
  end
end
e[2] = math.max(e[2] + 1, knownTick + 1, now)
local stale = KEYS[2] and e[9] == 0 -- what may be there is not a part of it
local renew = KEYS[2] and (stale or redis.call('PTTL', KEYS[2]) < 8636400000)

-- What is not a mark, or can't be one, has taken the place of one: then all before is gone,
-- and it is replaced. One that is later than the clock is in the making (markInSteps), or
-- was left so: the clock moves on to it.
local fields = {}
local function mark(tag)
  local s = e[9] == 1 and redis.call('HGET', KEYS[2], 't:' .. tag)
  if not s then return {0, 0, 0, 0}, false end
  local m = parse(s, 'm1', 4)
  if not m or last(m) > latest then
    m = {e[3], 0, 0, 0}
    fields['t:' .. tag] = m
  end
  e[3] = math.max(e[3], last(m))
  return m, true
end
-- save stores the epoch and the fields, and returns what Reading.AppendText writes.
local function save(marks)
  put(e)
  if stale then redis.call('UNLINK', KEYS[2]) end
  if stale and next(fields) then redis.call('HSET', KEYS[2], '', number(e[1])) end
  for field, m in pairs(fields) do
    if m then
      redis.call('HSET', KEYS[2], field, text('m1', m))
    else
      redis.call('HDEL', KEYS[2], field)
    end
  end
  if renew and e[9] == 1 then redis.call('PEXPIRE', KEYS[2], 8640000000) end
  e[9] = 0
  local lines = {number(now), text('e1', e)}
  for i = 1, #marks do lines[#lines + 1] = text('m1', marks[i]) end
  return table.concat(lines, '\n')
end

local function timesOf(i)
  local times = {}
  if ARGV[i] == '0' then
    for d in string.gmatch(ARGV[i + 1], '%d+') do times[#times + 1] = tonumber(d) end
  end
  return times
end
local function add(m, t, i, before)
  local dated = 0 < m[4] and m[4] < m[3]
  if m[3] > 0 and (not dated and m[4] <= now or dated and ARGV[i] == '2') then
    m[1], m[3], m[4] = math.max(m[1], m[3]), 0, 0
  end
  before = before or 0
  if ARGV[i] == '0' and 0 < before and before < t then
    if m[3] > 0 and not dated then m[4] = m[3] end
    m[3], m[4] = math.max(m[3], t), math.max(m[4], before)
  elseif ARGV[i] == '0' then
    m[1], m[3], m[4] = math.max(m[1], m[3], t), 0, 0
  elseif ARGV[i] == '1' then
    m[2] = math.max(m[2], t)
  else
    local when = now + tonumber(ARGV[i + 1])
    if m[3] > 0 then when = math.min(when, m[4]) end
    m[3], m[4] = math.max(m[3], t), when
    if when < m[3] then m[1], m[3], m[4] = math.max(m[1], m[3]), 0, 0 end
  end
  return m
end

local marks, count = {}, 0
if #ARGV >= 11 and e[9] == 1 then count = redis.call('HLEN', KEYS[2]) - 1 end
for i = 11, #ARGV do
  local field = 't:' .. ARGV[i]
  if not fields[field] then
    local m, known = mark(ARGV[i])
    if not known then count = count + 1 end
    fields[field] = m
  end
  marks[i - 10] = fields[field]
end
local t = math.max(e[3] + 1, now)
e[3] = t
local times = {}
if e[2] - now <= 1000000 then times = timesOf(5) end -- goneBack
if #ARGV < 11 then
  local all = add({e[5], e[6], e[7], e[8]}, t, 5, times[1])
  e[5], e[6], e[7], e[8] = all[1], all[2], all[3], all[4]
end
for i = 1, #marks do add(marks[i], t, 5, times[i]) end

local rounds = math.min(#marks, 64)
while e[9] == 1 and rounds > 0 and count > tonumber(ARGV[7]) do
  rounds = rounds - 1
  local sample = redis.call('HRANDFIELD', KEYS[2], ARGV[8], 'WITHVALUES')
  local ages, oldest = {}, t
  for i = 1, #sample, 2 do
    local field = sample[i]
    if field ~= '' and fields[field] == nil then
      local m = parse(sample[i + 1], 'm1', 4)
      ages[field] = m and last(m) or t - 1
      if string.sub(field, 1, 2) ~= 't:' then ages[field] = 0 end -- says nothing
      if ages[field] > 0 then oldest = math.min(oldest, ages[field]) end
    end
  end
  if oldest < t then e[4] = math.max(e[4], oldest) end
  for field, time in pairs(ages) do
    if time <= e[4] then
      fields[field] = false
      count = count - 1
    end
  end
end
if #marks > 0 then e[9] = 1 end

local answer = save(marks)
if ARGV[9] ~= '' then
  local told = redis.pcall('PUBLISH', ARGV[9], ARGV[10] .. answer)
  if type(told) == 'table' then return told end
  told = redis.pcall('PUBLISH', ARGV[9] .. ':c', ARGV[10] .. answer)
  if type(told) == 'table' then return told end
end
return number(found) .. '\n' .. answer

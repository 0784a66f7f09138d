package redisstore

// The scripts of [store.Queue], each on the keys of one partition. [storetest.Memory]
// implements the same in Go, and a differential test keeps both alike.
//
// An entry in a stream is a list of fields in a fixed order: "k" the key, "o" "s" for a value
// or "d" for a Delete, "v" the value, "m" the metadata; in Dead then "i" the id that it had in
// Log, "n" the attempts, "e" the error. An entry of any other form is foreign.
//
// A place in the hash of pending writes is "first newest attempts".
//
// A stream that has become empty gets a lifetime of an hour, and loses it when an entry is
// added, so that a queue out of use leaves no keys behind. It is not removed at once: its ids,
// which have to grow, would begin again in the same millisecond. For a user that may not remove
// a lifetime (PERSIST), none is set.
const queueCommon = `
local log, pending, owner, dead, graves, from = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local idle = '3600000'
local function rest(stream)
  if redis.call('XLEN', stream) == 0 and redis.call('PTTL', stream) == -1 and type(redis.pcall('PERSIST', stream)) ~= 'table' then
    redis.call('PEXPIRE', stream, idle)
  end
end
local function number(n) return string.format('%.0f', n) end
-- What other types than ours stand in the place of is refused here: a script that fails has
-- written nothing. For the same reason, what is no id of a stream is no place and no grave.
local function usable()
  redis.call('XLEN', log)
  redis.call('HLEN', pending)
  redis.call('GET', owner)
  redis.call('XLEN', dead)
  redis.call('HLEN', graves)
end
local function id(s)
  local function fits(n) return #n < 20 or #n == 20 and n <= '18446744073709551615' end
  local ms, n = string.match(s, '^(%d+)%-(%d+)$')
  return ms and fits(ms) and fits(n)
end
local function place(key)
  local p = redis.call('HGET', pending, key)
  if not p then return nil end
  local first, last, attempts = string.match(p, '^(%S+) (%S+) (%d+)$')
  if first and id(first) and id(last) and #attempts < 16 then return first, last, attempts end
  return nil
end
local function graveOf(key)
  local grave = redis.call('HGET', graves, key)
  if grave and not id(grave) then
    redis.call('HDEL', graves, key)
    return false
  end
  return grave
end
local function setPlace(key, first, newest, attempts)
  redis.call('HSET', pending, key, first .. ' ' .. newest .. ' ' .. attempts)
end
local function ours(f)
  return f and #f >= 8 and f[1] == 'k' and f[3] == 'o' and f[5] == 'v' and f[7] == 'm'
end
-- entry returns the fields of an entry, nil if it is not there.
local function entry(stream, id)
  local e = redis.call('XRANGE', stream, id, id)[1]
  if e and ours(e[2]) then return e[2] end
  return nil
end
-- newest returns the newest write of a key, or else the entry of which id and f are known.
local function newest(key, id, f)
  local _, last, attempts = place(key)
  if last and last ~= id then
    local g = entry(log, last)
    if g then id, f = last, g else attempts = nil end
  end
  if not f then return nil end
  return {id, tonumber(attempts or '0'), f[2], f[4], f[6], f[8]}
end
local function append(key, op, value, meta, most)
  local first, last = place(key)
  local replaces = first and first ~= last
  if not replaces and redis.call('XLEN', log) >= most then return '' end
  local id = redis.call('XADD', log, '*', 'k', key, 'o', op, 'v', value, 'm', meta)
  if replaces then redis.call('XDEL', log, last) end
  setPlace(key, first or id, id, '0')
  local grave = graveOf(key)
  if grave then
    redis.call('XDEL', dead, grave)
    redis.call('HDEL', graves, key)
    rest(dead)
  end
  return id
end
-- The owner is "until token", until being the end of the lease in ms.
local function holder()
  local o = redis.call('GET', owner)
  if not o then return nil end
  local stop, token = string.match(o, '^(%d+) (.*)$')
  if stop and tonumber(stop) > now then return token end
  return nil
end
local function hold(token, lease)
  redis.call('SET', owner, number(now + tonumber(lease)) .. ' ' .. token)
end
`

// appendScript: ARGV[1] the sender, ARGV[2] its sequence number, ARGV[3] the maximum number of
// entries, ARGV[4] a channel or "", ARGV[5] the message; then for each write its key,
// operation, value and metadata, from ARGV[9] on. ARGV[6] to ARGV[8] say when to forget
// senders: SenderLife in ms, ManyFrom and FromSample.
//
// A sender's field is "time count answer".
var appendScript = newScript(queueCommon + `
local known = redis.call('HGET', from, ARGV[1])
if known then
  local count, answer = string.match(known, '^%d+ (%d+) (.*)$')
  count = tonumber(count or '0')
  if count == tonumber(ARGV[2]) then return answer end
  if count > tonumber(ARGV[2]) then return redis.error_reply('OVERTAKEN') end
end
usable()
local ids = {}
for i = 7, #ARGV, 4 do
  ids[#ids + 1] = append(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[3]))
end
redis.pcall('PERSIST', log) -- last: a server that is full refuses nothing any more that comes after a write
local answer = table.concat(ids, ' ')
redis.call('HSET', from, ARGV[1], number(now) .. ' ' .. ARGV[2] .. ' ' .. answer)
redis.call('PEXPIRE', from, idle)
if redis.call('HLEN', from) > tonumber(ARGV[5]) then
  local sample = redis.call('HRANDFIELD', from, ARGV[6], 'WITHVALUES')
  for i = 1, #sample, 2 do
    local at = tonumber(string.match(sample[i + 1], '^(%d+)') or '0')
    if at < now - tonumber(ARGV[4]) then redis.call('HDEL', from, sample[i]) end
  end
end
return answer
`)

// newestScript: ARGV are keys.
var newestScript = newScript(queueCommon + `
local out = {}
for i = 1, #ARGV do out[i] = newest(ARGV[i], nil, nil) or false end
return out
`)

// Scripts that make room, or are needed for that, also run when Redis has no memory left for
// writes.

// touchQueue and touchMembers are the commands that write nothing: no sender has an empty name, and no
// time is both more than one and less than none.
const (
	touchQueue   = `redis.pcall('HDEL', KEYS[6], '')`
	touchMembers = `redis.pcall('ZREMRANGEBYSCORE', KEYS[1], 1, 0)`
)

// holdScript: ARGV[1] the owner, ARGV[2] the lease in ms, ARGV[3] "1" to renew only.
var holdScript = newUrgentScript(touchQueue, queueCommon+`
local h = holder()
if h == ARGV[1] or not h and ARGV[3] ~= '1' then
  hold(ARGV[1], ARGV[2])
  return 1
end
return 0
`)

var leaveScript = newUrgentScript(touchQueue, queueCommon+`
if holder() == ARGV[1] then redis.call('DEL', owner) end
return 0
`)

// fetchScript: ARGV[1] the owner, ARGV[2] the lease in ms, ARGV[3] the id to continue after,
// ARGV[4] how many entries to read, ARGV[5] how many bytes, ARGV[6] the delay in ms, ARGV[7]
// how many entries end the delay; ARGV[8] and on are keys.
//
// It answers the number of entries, how long to wait, how many entries it has read, the last
// id, and the entries. Foreign entries are removed: no other script would remove them.
var fetchScript = newUrgentScript(touchQueue, queueCommon+`
usable()
if holder() ~= ARGV[1] then return false end
hold(ARGV[1], ARGV[2])
local out = {redis.call('XLEN', log), 0, 0, ARGV[3]}
local seen, size, most = {}, 0, tonumber(ARGV[5])
if out[1] == 0 then rest(log) end
local function take(key, id, f)
  if seen[key] then return end
  local e = newest(key, id, f)
  if e then
    seen[key] = true
    size = size + #e[5] + #e[6]
    out[#out + 1] = e
  end
end
for i = 8, #ARGV do
  if i > 8 and size >= most then break end
  take(ARGV[i], nil, nil)
  out[3] = out[3] + 1
end
if #ARGV >= 8 then return out end
local function after(id, n)
  return redis.call('XRANGE', log, id == '' and '-' or '(' .. id, '+', 'COUNT', n)
end
local delay = tonumber(ARGV[6])
if delay > 0 and out[1] < tonumber(ARGV[7]) then
  local head = after(ARGV[3], 1)[1]
  if head then
    local age = now - tonumber(string.match(head[1], '^%d+'))
    if age < delay then
      out[2] = math.min(delay - age, delay)
      return out
    end
  end
end
local left = tonumber(ARGV[4])
while left > 0 do
  local chunk = after(out[4], math.min(left, 16))
  if #chunk == 0 then return out end
  for _, e in ipairs(chunk) do
    if out[3] > 0 and size >= most then return out end
    if ours(e[2]) then take(e[2][2], e[1], e[2]) else redis.call('XDEL', log, e[1]) end
    out[3], out[4], left = out[3] + 1, e[1], left - 1
  end
end
return out
`)

// settleScript: ARGV[1] the owner, ARGV[2] the lease in ms, ARGV[3] the maximum number of dead
// letters; then for each outcome the verdict, key, id, attempts and error.
var settleScript = newUrgentScript(touchQueue, queueCommon+`
usable()
for i = 4, #ARGV, 5 do
  if not id(ARGV[i + 2]) then return redis.error_reply('ERR invalid id') end
end
if holder() ~= ARGV[1] then return false end
hold(ARGV[1], ARGV[2])
local function settle(verdict, key, id, attempts, err)
  local first, last = place(key)
  if last and last ~= id then
    if verdict == '1' then
      redis.call('XDEL', log, id)
      if first ~= last then
        redis.call('XDEL', log, first)
        setPlace(key, last, last, '0')
      end
    end
    return 1
  end
  if verdict == '2' then
    if last then setPlace(key, first, last, attempts) end
    return 0
  end
  if verdict == '3' then
    local f = entry(log, id)
    if f and redis.call('XLEN', dead) >= tonumber(ARGV[3]) then return 2 end
    if f then
      local grave = redis.call('XADD', dead, '*', 'k', f[2], 'o', f[4], 'v', f[6], 'm', f[8], 'i', id, 'n', attempts, 'e', err)
      redis.pcall('PERSIST', dead)
      redis.call('HSET', graves, key, grave)
    end
  end
  redis.call('XDEL', log, id)
  if last then
    redis.call('XDEL', log, first)
    redis.call('HDEL', pending, key)
  end
  return 0
end
local out = {}
for i = 4, #ARGV, 5 do
  out[#out + 1] = settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
rest(log)
return out
`)

var depthScript = newScript(queueCommon + `
local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
return {redis.call('XLEN', log), redis.call('XLEN', dead), first and first[1] or '', now}
`)

// reviveScript: ARGV[1] "1" to discard, ARGV[2] the maximum number of entries in Log, ARGV[3]
// and on are ids.
var reviveScript = newUrgentScript(touchQueue, queueCommon+`
usable()
for i = 3, #ARGV do redis.call('XRANGE', dead, ARGV[i], ARGV[i]) end -- refuses what is no id
local function revive(id)
  local f = entry(dead, id)
  if not f then return 0 end
  local known = redis.call('HGET', graves, f[2]) == id
  if ARGV[1] ~= '1' then
    if place(f[2]) or not known then return 2 end
    if append(f[2], f[4], f[6], f[8], tonumber(ARGV[2])) == '' then return 3 end
  end
  redis.call('XDEL', dead, id)
  if known then redis.call('HDEL', graves, f[2]) end
  return 1
end
local out = {}
for i = 3, #ARGV do out[#out + 1] = revive(ARGV[i]) end
redis.pcall('PERSIST', log) -- last, as in appendScript
rest(log)
rest(dead)
return out
`)

// attendScript: KEYS[1] a sorted set, ARGV[1] the member, ARGV[2] for how long, in ms.
var attendScript = newUrgentScript(touchMembers, `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], 3600000)
return redis.call('ZCARD', KEYS[1])
`)

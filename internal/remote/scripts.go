package remote

import "github.com/redis/go-redis/v9"

type script struct{ text, hash string }

func newScript(text string) script {
	return script{text, redis.NewScript(text).Hash()}
}

// words begin a command that runs the script, with room for n in all.
func (s script) words(ref reference, n int) []any {
	words := make([]any, 0, n)
	if ref == byText {
		return append(words, "eval", s.text)
	}
	return append(words, "evalsha", s.hash)
}

// Every script begins with what each of them needs. done ends one that has taken
// effect: it publishes ARGV[i + 1] on the channel ARGV[i], if there is one. own says
// whether what is there is what an earlier execution of the same command has stored.
const common = `
local function done(i, answer)
  if ARGV[i] then
    local told = redis.pcall('PUBLISH', ARGV[i], ARGV[i + 1])
    if type(told) == 'table' then return told end
  end
  return answer
end
local function own(cur, new)
  return type(cur) == 'string' and #new >= 24 and string.sub(cur, 1, 24) == string.sub(new, 1, 24)
end
`

// setScript: ARGV[1] the record, ARGV[2] its lifetime in ms, 0 for no end.
var setScript = newScript(common + `
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return done(3, 1)
`)

var deleteScript = newScript(common + `
redis.call('UNLINK', KEYS[1])
return done(1, 1)
`)

// addScript: as setScript. It answers what SET NX GET does, which older servers do not
// know.
var addScript = newScript(common + `
local cur = redis.pcall('GET', KEYS[1])
if cur == false then
  if ARGV[2] == '0' then
    redis.call('SET', KEYS[1], ARGV[1])
  else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  end
  return done(3, false)
end
if own(cur, ARGV[1]) then return done(3, cur) end
return cur
`)

// The compare-and-set scripts. Each touches one key, so they work on a cluster,
// and each compares in the same way: ARGV[1] is the token that was seen, ARGV[2]
// says what was seen: "s" a string, "w" another type, "m" nothing, which nothing is
// the same as here. A full token is compared with the head of the string, which
// leaves a large value where it is; a shorter one is the whole of a short foreign
// string.
//
// Other errors than that of the type, such as that the user may not read, are the
// script's answer: they say nothing about what is there.
const compare = common + `
local token = ARGV[1]
local cur
if #token == 24 then
  cur = redis.pcall('GETRANGE', KEYS[1], 0, 23)
else
  cur = redis.pcall('GET', KEYS[1])
end
local same
if type(cur) == 'table' then
  if string.sub(cur.err, 1, 9) ~= 'WRONGTYPE' then return cur end
  same = ARGV[2] == 'w'
else
  same = ARGV[2] == 's' and cur == token
end
`

// swapScript: ARGV[3] the new record, ARGV[4] its lifetime in ms, 0 for no end,
// -1 to keep what is left. If what was seen is not there, this may be a second
// execution of the same command: then its own record is.
var swapScript = newScript(compare + `
if not same then
  if own(cur, ARGV[3]) then return done(5, 1) end
  return 0
end
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], ARGV[3])
elseif ARGV[4] == '-1' then
  redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return done(5, 1)
`)

var releaseScript = newScript(compare + `
if not same then return 0 end
redis.call('UNLINK', KEYS[1])
return done(3, 1)
`)

// extendScript: ARGV[3] the lifetime in ms, 0 for no end.
var extendScript = newScript(compare + `
if not same then return 0 end
if ARGV[3] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return done(4, 1)
`)

// resealScript: ARGV[3] the seal, of 36 bytes, ARGV[4] the greatest lifetime in ms
// that may be left, 0 for any. What is too short to have a seal is left alone.
var resealScript = newScript(compare + `
if type(cur) ~= 'string' or redis.call('STRLEN', KEYS[1]) < 36 then return 0 end
if not same then
  if own(cur, ARGV[3]) then return done(5, 1) end
  return 0
end
redis.call('SETRANGE', KEYS[1], 0, ARGV[3])
if ARGV[4] ~= '0' then
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 or left > tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
end
return done(5, 1)
`)

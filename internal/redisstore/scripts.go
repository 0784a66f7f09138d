package redisstore

import (
	"crypto/fips140"
	"strings"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

type script struct {
	text, hash       string
	textArg, hashArg any // the same as arguments of a command

	// reading is the script that also reads its keys, last, so that the server remembers that they
	// were read; nil: there is none.
	reading *script

	// sharded is the script that publishes on a channel of a cluster, if this one publishes.
	sharded *script
}

// newReadingScript is newScript with one that also reads the keys. A server that tracks the reads of
// a connection forgets a key when it changes, so a read before that would not do.
func newReadingScript(text string) script {
	s := newScript(text)
	reading := newScript("local function run()" + text + `end
local answer = run()
for i = 1, #KEYS do redis.pcall('GETRANGE', KEYS[i], 0, 0) end
return answer
`)
	s.reading = &reading
	return s
}

// of returns the script that a command is sent as.
func (s script) of(c *store.Command) script {
	if c.Tracked && s.reading != nil {
		s = *s.reading
	}
	return s.on(c.Notify.Sharded)
}

// on returns the script for a channel, which is one of a cluster or not.
func (s script) on(cluster bool) script {
	if cluster && s.sharded != nil {
		return *s.sharded
	}
	return s
}

// shardedPublish is a function that publishes on a channel of a cluster. A node that does not have the
// slot of the channel, or a server before Redis 7.0, does it as elsewhere. So does a node to which the slot
// moves, and with it a key: it takes an SPUBLISH, but no subscription yet. There, no session is present.
const shardedPublish = `
local function publish(call, channel, message)
  local r = redis.pcall('SPUBLISH', channel, message)
  if r == 0 then
    local n = redis.pcall('PUBSUB', 'SHARDNUMSUB', string.gsub(channel, ':c$', '') .. ':p')
    if n[2] ~= 0 and not n.err then return r end
  elseif type(r) ~= 'table' then
    return r
  end
  return call('PUBLISH', channel, message)
end
`

var inSharded = strings.NewReplacer("redis.pcall('PUBLISH', ", "publish(redis.pcall, ", "redis.call('PUBLISH', ", "publish(redis.call, ")

func newScript(text string) script {
	s := scriptOf(text)
	if by := inSharded.Replace(text); by != text {
		flags, rest := "", by
		if strings.HasPrefix(by, "#!") {
			flags, rest, _ = strings.Cut(by, "\n")
			flags += "\n"
		}
		sharded := scriptOf(flags + shardedPublish + rest)
		s.sharded = &sharded
	}
	return s
}

func scriptOf(text string) script {
	var hash string
	// By SHA-1, Redis names scripts. That protects nothing, so that it is also right where programs
	// may use only approved algorithms.
	fips140.WithoutEnforcement(func() { hash = redis.NewScript(text).Hash() })
	return script{text: text, hash: hash, textArg: text, hashArg: hash}
}

// words returns the first words of a command that runs the script, with room for n in all.
func (s script) words(ref reference, n int) []any {
	words := make([]any, 0, n)
	if ref == byText {
		return append(words, "eval", s.textArg)
	}
	return append(words, "evalsha", s.hashArg)
}

// common is the beginning of every script, with the functions that each of them needs. done
// ends a script that has taken effect: it publishes ARGV[i + 1] on the channel ARGV[i], if
// there is one; and if there is an ARGV[i + 2], only to those whom the sign of a lease names, as
// [store.ToldBy] does. own reports whether the existing record is the one that an earlier execution
// of the same command stored.
const common = `
local function done(i, answer, sign)
  local failed
  local function tell(channel)
    local r = redis.pcall('PUBLISH', channel, ARGV[i + 1])
    if type(r) == 'table' then failed = r end
  end
  if ARGV[i] and not ARGV[i + 2] then
    tell(ARGV[i])
  elseif ARGV[i] and sign then
    for at = 1, #sign - 7, 8 do tell(ARGV[i] .. ':w:' .. string.sub(sign, at, at + 7)) end
    if #sign % 8 == 1 then tell(ARGV[i]) end
  end
  return failed or answer
end
local function own(cur, new)
  return type(cur) == 'string' and #new >= 24 and string.sub(cur, 1, 24) == string.sub(new, 1, 24)
end
`

// setScript: ARGV[1] the record, ARGV[2] its lifetime in ms, 0 for no expiry, ARGV[3] a
// channel, if there is a message, ARGV[4] the message. It and the following ones are the scripts of the most frequent
// commands: they contain only what they need, and return a refusal as it is, which older
// servers would wrap.
var setScript = newReadingScript(`
local r
if ARGV[2] == '0' then
  r = redis.pcall('SET', KEYS[1], ARGV[1])
else
  r = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if r.err then return r end
if not ARGV[3] then return 1 end
r = redis.pcall('PUBLISH', ARGV[3], ARGV[4])
if type(r) == 'table' then return r end
return 1
`)

// deleteScript: ARGV[1] a channel, ARGV[2] the message.
var deleteScript = newScript(`
local r = redis.pcall('UNLINK', KEYS[1])
if type(r) == 'table' then return r end
r = redis.pcall('PUBLISH', ARGV[1], ARGV[2])
if type(r) == 'table' then return r end
return 1
`)

// eachOf is the common part of the scripts of several Sets, and of several Deletes. The last
// ARGV are a channel and messages: one for each key, or one for all of them, which is published
// if any took effect. A refusal of the first is the result for all, and nothing has happened.
// Otherwise the answer is 1 if nothing has failed, else a list: for each key "", or its error, as
// a string, since go-redis loses its place in a list with an error in it.
const eachOf = `
local told = #ARGV - n * width - 1
local channel = ARGV[n * width + 1]
local out, any, bad = {}, false, false
for i = 1, n do
  local r = write(i)
  local failed = type(r) == 'table' and r.err
  if failed and i == 1 then return r end
  if not failed then
    any = true
    if told == n then
      r = redis.pcall('PUBLISH', channel, ARGV[n * width + 1 + i])
      failed = type(r) == 'table' and r.err
    end
  end
  out[i] = failed or ''
  bad = bad or failed
end
if told ~= n and any then
  local r = redis.pcall('PUBLISH', channel, ARGV[n * width + 2])
  if type(r) == 'table' then
    bad = true
    for i = 1, n do
      if out[i] == '' then out[i] = r.err end
    end
  end
end
if bad then return out end
return 1
`

// setSeveralScript: ARGV begins with each key's record and lifetime.
var setSeveralScript = newReadingScript(`
local n, width = #KEYS, 2
local function write(i)
  local life = ARGV[2 * i]
  if life == '0' then return redis.pcall('SET', KEYS[i], ARGV[2 * i - 1]) end
  return redis.pcall('SET', KEYS[i], ARGV[2 * i - 1], 'PX', life)
end
` + eachOf)

var deleteSeveralScript = newScript(`
local n, width = #KEYS, 0
local function write(i) return redis.pcall('UNLINK', KEYS[i]) end
` + eachOf)

// fillScript puts values in the place of leases. ARGV begins with each key's token, record and
// lifetime, and ends with a channel, and each key's message, which is published only to those whom
// the sign of its lease names, as by done. It is what swapScript does, for the most frequent case of
// it, and for many keys. The answer is 1 if each key has got its value, 0 if the only one held
// something else, or a list: for each key 1, 0 or its error, as a string. The first refusal is the
// result for all if nothing has happened yet. Unlike GETRANGE, GET needs no numbers, which cost more than
// a lease; only a fill that comes too late reads more, the record that has replaced the lease.
var fillScript = newReadingScript(`
local n, call, sub = #KEYS, redis.pcall, string.sub
local channel = ARGV[3 * n + 1]
local failed
local function tell(to, message)
  local r = redis.pcall('PUBLISH', to, message)
  if type(r) == 'table' then failed = r end
end
local out, any, all = {}, false, true
for i = 1, n do
  local key, record = KEYS[i], ARGV[3 * i - 1]
  local head, answer = call('GET', key), 0
  failed = nil
  if type(head) == 'table' then
    if sub(head.err, 1, 9) ~= 'WRONGTYPE' then failed = head end
  elseif head and sub(head, 1, 24) == ARGV[3 * i - 2] then
    local r = call('SET', key, record, 'PX', ARGV[3 * i])
    if r.err then
      failed = r
    else
      answer, any = 1, true
      if #head > 36 then
        local message = ARGV[3 * n + 1 + i]
        for at = 37, #head - 7, 8 do tell(channel .. ':w:' .. sub(head, at, at + 7), message) end
        if #head % 8 == 5 then tell(channel, message) end
      end
    end
  elseif head and sub(head, 1, 24) == sub(record, 1, 24) then
    answer = 1
  end
  if failed then
    if n == 1 or not any then return failed end
    answer = failed.err
  end
  out[i], all = answer, all and answer == 1
end
if all then return 1 end
if n == 1 then return 0 end
return out
`)

// addScript: as setScript. It answers like SET NX GET, which older servers do not support.
var addScript = newReadingScript(common + `
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

// compare is the beginning of the compare-and-set scripts. Each touches one key, so they work
// on a cluster, and each compares in the same way: ARGV[1] is the token that was seen, ARGV[2]
// its state: "s" a string, "h" a string whose SHA-1 the token is, "w" another type, "m" a missing
// key, which matches nothing here. A full token is compared with the head of the string, which
// avoids reading a large value; a shorter one is the whole of a short foreign string.
//
// Errors other than a wrong type, such as that the user may not read, are the script's answer:
// they say nothing about what the key holds.
const compare = common + `
local token = ARGV[1]
local cur
if #token == 24 and ARGV[2] == 's' then
  cur = redis.pcall('GETRANGE', KEYS[1], 0, 23)
else
  cur = redis.pcall('GET', KEYS[1])
end
local same
if type(cur) == 'table' then
  if string.sub(cur.err, 1, 9) ~= 'WRONGTYPE' then return cur end
  same = ARGV[2] == 'w'
elseif ARGV[2] == 'h' then
  same = cur and redis.sha1hex(cur) == token
else
  same = ARGV[2] == 's' and cur == token
end
local function lease(head) return #head >= 24 and string.byte(head, 5) == 3 end
local function sign()
  return lease(token) and redis.call('GETRANGE', KEYS[1], 36, -1) or ''
end
`

// swapScript: ARGV[3] the new record, ARGV[4] its lifetime in ms, 0 for no expiry, -1 to keep
// the remaining lifetime; ARGV[5] to ARGV[7] as in done. If the key does not hold the record that
// was seen, this may be a second execution of the same command: the key then holds its own
// record, and the first execution has published what there was to publish. A lease that replaces
// a lease inherits the sign that it is awaited.
var swapScript = newReadingScript(compare + `
if not same then
  if own(cur, ARGV[3]) then return done(5, 1) end
  return 0
end
local new, signed = ARGV[3], ''
if ARGV[7] or #new == 36 then signed = sign() end
if #new == 36 and lease(new) then new = new .. signed end
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], new)
elseif ARGV[4] == '-1' then
  redis.call('SET', KEYS[1], new, 'KEEPTTL')
else
  redis.call('SET', KEYS[1], new, 'PX', ARGV[4])
end
return done(5, 1, signed)
`)

// releaseScript: ARGV[3] to ARGV[5] as in done.
var releaseScript = newScript(compare + `
if not same then return 0 end
local signed = ARGV[5] and sign()
redis.call('UNLINK', KEYS[1])
return done(3, 1, signed)
`)

// awaitScript puts the sign on a lease that [store.SignFor] makes for ARGV[3]. It keeps the
// lifetime.
var awaitScript = newScript(compare + `
if not same or not lease(token) then return 0 end
local signed, who = sign(), ARGV[3]
if #signed % 8 == 1 then return 1 end
for at = 1, #signed, 8 do
  if string.sub(signed, at, at + 7) == who then return 1 end
end
if who == '' or #signed >= 56 then who = '\1' end
redis.call('SETRANGE', KEYS[1], 36 + #signed, who)
return 1
`)

// extendScript: ARGV[3] the lifetime in ms, 0 for no expiry.
var extendScript = newReadingScript(compare + `
if not same then return 0 end
if ARGV[3] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return done(4, 1)
`)

// notAdopted is the answer of adoptScript if the key does not hold the string that was seen.
const notAdopted = -3

// adoptScript: ARGV[3] the maximum remaining lifetime in ms, 0 for any.
var adoptScript = newReadingScript(compare + `
if type(cur) ~= 'string' or not same then return -3 end
local left = redis.call('PTTL', KEYS[1])
if ARGV[3] ~= '0' and (left < 0 or left > tonumber(ARGV[3])) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  left = tonumber(ARGV[3])
end
return left
`)

// resealScript: ARGV[3] the seal, of 36 bytes, ARGV[4] the maximum remaining lifetime in ms, 0
// for any. A string that is too short to have a seal is left as it is.
var resealScript = newReadingScript(compare + `
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

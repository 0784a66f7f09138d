package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// inLua substitutes constants in a script.
func inLua(script string) string {
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	return strings.NewReplacer(
		"LOSTFOR", strconv.Itoa(logicalclock.LostFor), "MAXAHEAD", strconv.FormatInt(logicalclock.MaxAhead, 10), "LIFE", ms(logicalclock.ClockLife), "RENEWED", ms(logicalclock.ClockLife-time.Hour),
	).Replace(script)
}

// Marks and Mark are one script each, which implements in Redis what
// [logicalclock.stored.resume] and [logicalclock.Tombstone.add] implement in Go. Both touch the
// epoch, so that it is not the least recently used key, and renew its lifetime.
//
// KEYS[1] is the epoch and KEYS[2] the hash of tags: its field "" holds the epoch that it belongs
// to, and "t:" followed by a tag the tombstone of that tag. Where no tag is named there is only one
// key, since a script of one key also runs while a cluster moves it to another node; for
// scripts of two keys then see [Redis.addTombstonesInSteps]. ARGV[1] to ARGV[3] are the epoch, tick and
// clock that the caller knows, ARGV[4] is a new epoch. Numbers are doubles and exact up to 2^53.
//
// An epoch is a list of numbers here: 1 epoch, 2 tick, 3 clock, 4 floor, 5 to 8 the tombstone of all
// entries, 9 whether there are tags. A tombstone is one too: 1 hard, 2 soft, 3 next, 4 when.
//
// All reads happen before the first write, which is of the epoch, and is refused if any write
// is: a script that fails has written nothing.
var markBase = inLua(`
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
local latest = now + MAXAHEAD
local function sound(e)
  return e and e[1] > 0 and e[9] <= 1 and math.max(e[2], e[3]) <= latest and math.max(e[4], e[5], e[6], e[7]) <= e[3]
end
local function put(e) redis.call('SET', KEYS[1], text('e1', e), 'PX', LIFE) end
`)

var resume = markBase + inLua(`
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
if not sound(e) or knownTick - e[2] > LOSTFOR then
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
local renew = KEYS[2] and (stale or redis.call('PTTL', KEYS[2]) < RENEWED)

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
  if renew and e[9] == 1 then redis.call('PEXPIRE', KEYS[2], LIFE) end
  e[9] = 0
  local lines = {number(now), text('e1', e)}
  for i = 1, #marks do lines[#lines + 1] = text('m1', marks[i]) end
  return table.concat(lines, '\n')
end
`)

// addText is [logicalclock.Tombstone.add] of the mode in ARGV[i], at the time t. ARGV[i + 1] is the
// delay, or the times of NewMark.Before, each preceded by a space; before is one of them.
//
// A tombstone that is made in steps may have a time later than t.
const addText = `
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
`

// urgentScript is a script that also runs when Redis has no memory left for writes
// (noeviction): an invalidation frees memory rather than takes it, and cache hits need marks.
// The memory for marks is bounded, however much the cache stores.
//
// Servers before Redis 7.0 don't know the flag. There a script is refused the memory only until it
// has made a first write, so it begins with one that takes none and changes nothing.
type urgentScript struct{ urgent, plain script }

// newUrgentScript makes the script of a text. before is a command of Lua that writes nothing.
func newUrgentScript(before, text string) urgentScript {
	return urgentScript{newScript("#!lua flags=allow-oom\n" + text), newScript(before + "\n" + text)}
}

// Commands that write nothing: to the epoch, of which only the lifetime is renewed, and to the hash
// of tags, which has no such field.
var (
	touchEpoch = inLua(`redis.pcall('PEXPIRE', KEYS[1], LIFE)`)
	touchTags  = `redis.pcall('HDEL', KEYS[1], '-')`
)

// readClockScript: ARGV[5] and on are tags.
var readClockScript = newUrgentScript(touchEpoch, resume+`
local marks = {}
for i = 5, #ARGV do marks[i - 4] = mark(ARGV[i]) end
return number(found) .. '\n' .. save(marks)
`)

// addTombstonesScript: ARGV[5] is the mode, ARGV[6] as in addText, ARGV[7] MaxTags, ARGV[8] TagSample,
// ARGV[9] a channel or "", ARGV[10] the message, ARGV[11] and on are tags.
//
// It forgets the oldest tags of a sample, and all others in the sample that say no more than
// the floor does then.
var addTombstonesScript = newUrgentScript(touchEpoch, resume+addText+`
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
`)

// ReadClock implements Store. It renews the lifetime of the epoch, and of the hash of tags if tags
// is not empty.
func (s *Redis) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	if store.IsBackground(ctx) {
		if node, _, err := s.node(ctx, names.Epoch); err == nil {
			defer takeTurn(ctx, node)()
		}
	}
	m, err := s.runClock(ctx, readClockScript, names, known, tags)
	if len(tags) > 0 && isUnstable(err) {
		return s.readClockInSteps(ctx, names, known, tags)
	}
	return m, err
}

// AddTombstones implements Store. A repeated attempt marks again, at a later time: entries that were
// stored in between are invalidated although they need not be.
func (s *Redis) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	if err := n.Check(); err != nil {
		return logicalclock.Reading{}, err
	}
	m, err := s.runClock(ctx, addTombstonesScript, names, known, n.Tags, uint8(n.Mode), whenOf(&n), logicalclock.MaxTags, logicalclock.TagSample, n.Channel, n.Message)
	if len(n.Tags) > 0 && isUnstable(err) {
		return s.addTombstonesInSteps(ctx, names, known, &n)
	}
	return m, err
}

// whenOf returns ARGV[6] of addTombstonesScript.
func whenOf(n *logicalclock.NewTombstone) any {
	if n.Mode == logicalclock.Hard {
		return logicalclock.Decimals(n.Before...)
	}
	return n.Delay
}

func (s *Redis) runClock(ctx context.Context, both urgentScript, names store.Names, known logicalclock.Known, tags []string, more ...any) (logicalclock.Reading, error) {
	keys := []string{names.Epoch, names.Tags}
	if len(tags) == 0 {
		keys = keys[:1]
	}
	args := append(make([]any, 0, 10+len(tags)), known.Epoch, known.Tick, known.Clock, logicalclock.NewEpochID())
	args = append(args, more...)
	for _, tag := range tags {
		args = append(args, tag)
	}
	text, err := s.runText(ctx, both, keys, args)
	if err != nil {
		return logicalclock.Reading{}, err
	}
	return parseReading(text, len(tags))
}

// parseReading parses a script's answer: the tick before it, on a line, and the text of a
// [logicalclock.Reading].
func parseReading(text string, tags int) (logicalclock.Reading, error) {
	first, rest, _ := strings.Cut(text, "\n")
	var found [1]int64
	m, ok := logicalclock.ParseReading(rest, tags)
	if !ok || !logicalclock.Numbers(" "+first, "", found[:]) {
		return logicalclock.Reading{}, logicalclock.ErrNoClock
	}
	m.Found = found[0]
	return m, nil
}

// runText runs a script that answers a string.
func (s *Redis) runText(ctx context.Context, both urgentScript, keys []string, args []any) (text string, err error) {
	words := append(make([]any, 0, 1+len(keys)+len(args)), len(keys))
	for _, k := range keys {
		words = append(words, k)
	}
	words = append(words, args...)
	run := func(sc script) func() error {
		sc = sc.on(s.cluster != nil)
		return func() error {
			text, err = s.runTextOf(ctx, sc, words)
			return err
		}
	}
	err = s.byFlags(run(both.urgent), run(both.plain))
	return text, err
}

func (s *Redis) runTextOf(ctx context.Context, sc script, words []any) (string, error) {
	run := func(ref reference) (string, error) {
		cmd := onceString{redis.NewStringCmd(ctx, append(sc.words(ref, 2+len(words)), words...)...)}
		cmd.SetFirstKeyPos(3)
		s.sendOnce(ctx, []redis.Cmder{cmd})
		if !isUnstable(cmd.Err()) { // handled by another method
			s.sendAgain(ctx, []redis.Cmder{cmd})
		}
		return cmd.Result()
	}
	text, err := run(byHash)
	if isNoScript(err) {
		text, err = run(byText)
	}
	return text, err
}

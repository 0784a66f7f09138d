package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Marks and Mark are one script each, which does in Redis what [stored.resume] and
// [Mark.add] say in Go. Both touch the epoch, so that the least recently used key is
// another one.
//
// KEYS[1] is the epoch and KEYS[2] the hash of tags: in the field "" the era that it
// belongs to, and in "t:" and a tag the mark of that tag. ARGV[1] to ARGV[3] are the
// era, tick and clock that the caller knows, ARGV[4] is a new era and ARGV[5] is
// lostFor. Numbers are doubles and exact up to 2^53.
//
// An epoch is a list of numbers here: 1 era, 2 tick, 3 clock, 4 floor, 5 to 8 what is
// said of all, 9 whether there are tags. A mark is one too: 1 hard, 2 soft, 3 next,
// 4 when.
const resume = `
local function number(n) return string.format('%.0f', n) end
local function text(head, list)
  for i = 1, #list do head = head .. ' ' .. number(list[i]) end
  return head
end
local function parse(s, head, len)
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

local raw, failed = look('GETRANGE', KEYS[1], 0, 255)
if failed then return failed end
local hash, failed = look('HGET', KEYS[2], '')
if failed then return failed end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local knownTick, knownClock = tonumber(ARGV[2]), tonumber(ARGV[3])

local e = parse(raw or '', 'e1', 9)
if not e or e[1] == 0 or e[9] > 1 or knownTick - e[2] > tonumber(ARGV[5]) then
  local clock = math.max(now, knownClock + 1)
  e = {tonumber(ARGV[4]), 0, clock, clock, 0, 0, 0, 0, 0}
else
  if number(e[1]) == ARGV[1] then e[3] = math.max(e[3], knownClock) end
  if e[9] == 1 and hash ~= number(e[1]) then
    e[3] = math.max(e[3] + 1, now)
    e[4] = e[3]
    e[9] = 0
  end
end
e[2] = math.max(e[2] + 1, knownTick + 1, now)
if e[9] == 0 then redis.call('UNLINK', KEYS[2]) end

-- What is not a mark has taken the place of one: then all before is gone.
local function mark(tag)
  local s = e[9] == 1 and redis.call('HGET', KEYS[2], 't:' .. tag)
  if not s then return {0, 0, 0, 0} end
  return parse(s, 'm1', 4) or {e[3], 0, 0, 0}
end
-- save stores the epoch and returns what Marks.AppendText writes.
local function save(marks)
  redis.call('SET', KEYS[1], text('e1', e))
  e[9] = 0
  local lines = {number(now), text('e1', e)}
  for i = 1, #marks do lines[#lines + 1] = text('m1', marks[i]) end
  return table.concat(lines, '\n')
end
`

// urgentScript is a script that runs also when Redis has no memory left for writes
// (noeviction): an invalidation makes room rather than takes it, and hits need marks.
// Whatever the cache stores, the memory for marks is bounded.
type urgentScript struct{ urgent, plain script }

func newUrgentScript(text string) urgentScript {
	return urgentScript{newScript("#!lua flags=allow-oom\n" + text), newScript(text)}
}

// marksScript: ARGV[6] and on are tags.
var marksScript = newUrgentScript(resume + `
local marks = {}
for i = 6, #ARGV do marks[#marks + 1] = mark(ARGV[i]) end
return save(marks)
`)

// markScript: ARGV[6] is the mode, ARGV[7] the delay or the times of NewMark.Before, each
// before a space, ARGV[8] maxTags, ARGV[9]
// tagSample, ARGV[10] a channel or "", ARGV[11] the message, ARGV[12] and on are tags.
//
// Those that are forgotten are the oldest of a sample, and all in it that say no more
// than the floor does then.
var markScript = newUrgentScript(resume + `
local t = math.max(e[3] + 1, now)
e[3] = t
local times = {}
if ARGV[6] == '0' and e[2] - now <= 1000000 then -- goneBack
  for d in string.gmatch(ARGV[7], '%d+') do times[#times + 1] = tonumber(d) end
end
local function add(m, before)
  local dated = 0 < m[4] and m[4] < m[3]
  if m[3] > 0 and (not dated and m[4] <= now or dated and ARGV[6] == '2') then
    m[1], m[3], m[4] = math.max(m[1], m[3]), 0, 0
  end
  before = before or 0
  if ARGV[6] == '0' and 0 < before and before < t then
    if m[3] > 0 and not dated then m[4] = m[3] end
    m[3], m[4] = t, math.max(m[4], before)
  elseif ARGV[6] == '0' then
    m[1], m[3], m[4] = t, 0, 0
  elseif ARGV[6] == '1' then
    m[2] = t
  else
    local when = now + tonumber(ARGV[7])
    if m[3] > 0 then when = math.min(when, m[4]) end
    m[3], m[4] = t, when
    if when < t then m[1], m[3], m[4] = t, 0, 0 end
  end
  return m
end

local marks = {}
if #ARGV < 12 then
  local all = add({e[5], e[6], e[7], e[8]}, times[1])
  e[5], e[6], e[7], e[8] = all[1], all[2], all[3], all[4]
end
for i = 12, #ARGV do
  local m = add(mark(ARGV[i]), times[i - 11])
  if e[9] == 0 then
    redis.call('HSET', KEYS[2], '', number(e[1]))
    e[9] = 1
  end
  redis.call('HSET', KEYS[2], 't:' .. ARGV[i], text('m1', m))
  marks[#marks + 1] = m
end

local rounds = math.min(#marks, 64)
while rounds > 0 and redis.call('HLEN', KEYS[2]) - 1 > tonumber(ARGV[8]) do
  rounds = rounds - 1
  local sample = redis.call('HRANDFIELD', KEYS[2], ARGV[9], 'WITHVALUES')
  local last, oldest = {}, t
  for i = 1, #sample, 2 do
    local m = sample[i] ~= '' and parse(sample[i + 1], 'm1', 4)
    if m then
      last[sample[i]] = math.max(m[1], m[2], m[3])
      oldest = math.min(oldest, last[sample[i]])
    end
  end
  if oldest < t then
    e[4] = math.max(e[4], oldest)
    for field, time in pairs(last) do
      if time <= e[4] then redis.call('HDEL', KEYS[2], field) end
    end
  end
end

local answer = save(marks)
if ARGV[10] ~= '' then
  local told = redis.pcall('PUBLISH', ARGV[10], ARGV[11] .. answer)
  if type(told) == 'table' then return told end
end
return answer
`)

// Marks implements Store.
func (s *Redis) Marks(ctx context.Context, names Names, known Known, tags []string) (Marks, error) {
	return s.marks(ctx, marksScript, names, known, tags)
}

// Mark implements Store. An attempt that is made again marks again, at a later time:
// more is gone than had to be, by what was stored in between.
func (s *Redis) Mark(ctx context.Context, names Names, known Known, n NewMark) (Marks, error) {
	if err := n.check(); err != nil {
		return Marks{}, err
	}
	return s.marks(ctx, markScript, names, known, n.Tags, uint8(n.Mode), n.when(), maxTags, tagSample, n.Tell.Channel, n.Tell.Message)
}

// when is what ARGV[7] of markScript is.
func (n *NewMark) when() any {
	if n.Mode == Hard {
		return decimals(n.Before...)
	}
	return n.Delay
}

func (s *Redis) marks(ctx context.Context, both urgentScript, names Names, known Known, tags []string, more ...any) (Marks, error) {
	args := append(make([]any, 0, 16+len(tags)), 2, names.Epoch, names.Tags, known.Era, known.Tick, known.Clock, newEra(), lostFor)
	args = append(args, more...)
	for _, tag := range tags {
		args = append(args, tag)
	}
	var text string
	var err error
	if !s.noFlags.Load() {
		text, err = s.runText(ctx, both.urgent, args)
		if err != nil && strings.Contains(err.Error(), "compiling") {
			s.noFlags.Store(true) // it has not run
		}
	}
	if s.noFlags.Load() {
		text, err = s.runText(ctx, both.plain, args)
	}
	if err != nil {
		return Marks{}, err
	}
	m, ok := ParseMarks(text, len(tags))
	if !ok {
		return Marks{}, errors.New("remote: a script answered what is no logical clock")
	}
	return m, nil
}

// runText runs a script that answers a text.
func (s *Redis) runText(ctx context.Context, sc script, args []any) (string, error) {
	run := func(ref reference) (string, error) {
		cmd := onceString{redis.NewStringCmd(ctx, append(sc.words(ref, 2+len(args)), args...)...)}
		cmd.SetFirstKeyPos(3)
		s.send(ctx, cmd)
		return cmd.Result()
	}
	text, err := run(byHash)
	if isNoScript(err) {
		text, err = run(byText)
	}
	return text, err
}

// newEra returns a number that no other era has had: of 53 bits, and not 0.
func newEra() uint64 {
	for {
		if era := rand.Uint64() >> 11; era != 0 {
			return era
		}
	}
}

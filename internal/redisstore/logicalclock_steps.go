package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// isUnstable reports whether a cluster refuses a script of several keys because it is moving
// their slot to another node, and has moved some of them. A script that writes where such a key
// was is refused in the middle, with another text.
func isUnstable(err error) bool {
	return isTryAgain(err) || err != nil && strings.Contains(err.Error(), "access a non local key")
}

func isTryAgain(err error) bool {
	return err != nil && err != redis.Nil && redis.HasErrorPrefix(err, "TRYAGAIN ")
}

// errSteps: other processes have changed the clock in each attempt.
var errSteps = errors.New("redisstore: the logical clock changes faster than it can be marked while its slot moves")

// stepsAgain is the maximum number of attempts.
const stepsAgain = 16

// While a cluster moves the slot of a logical clock, a script of both keys is refused for as
// long as one of them has been moved, or did not exist when it would have been moved. Scripts
// of one key run. So the operation that is otherwise one script is then done in steps, each of
// which is a script of one key; other processes may be in the middle of their steps, or may see
// the slot settled and use one script.
//
// A tombstone:
//
//	M1. the epoch is touched: it says the epoch E and the clock c. t is later than c, and
//	    than all stamps that any process has
//	M2. the tombstone is written into the hash, at the time t
//	M3. the clock of the epoch E is advanced to t, at least, and the tombstone is published
//	M4. the hash is read: the tombstone is there, or all steps are repeated
//
// A read:
//
//	Q1. the epoch is touched: it says the epoch E and the clock c
//	Q2. the hash is read
//	Q3. the epoch is touched: the floor is still the same
//
// If it is not, the hash of Q2 may be another one than that of Q1, and lack tombstones that the
// floor now stands for.
//
// The hash is written before the clock, because of this interleaving:
//
//  1. the clock is advanced to t; the tombstone is not in the hash yet
//  2. a reader reads that the clock is t and the tag has no tombstone
//  3. the tombstone is written. The reader takes its knowledge for complete up to t
//
// and it is read after the clock, for the same reason. A time in Q2 that is later than c
// belongs to a tombstone that is not complete yet, or was completed after Q1: it may be left out,
// and counts as c. The same read as one script advances the clock instead, so that a tombstone whose
// writer has died after M2 does not stay later than the clock.
//
// t need not be a time that no other mark has. A stamp that the tombstone does not cover, t or
// later, was read after the clock had reached t, so after M1, and the caller of the tombstone had
// changed the source before that.
//
// M4 is needed, since the hash may be replaced before M3:
//
//  1. the epoch says that there are no tags; M2 begins a hash with the tombstone
//  2. another process marks another tag, as one script. By the epoch there are no tags: it
//     removes the hash, begins one, and the epoch says that there are tags
//  3. M3. The tombstone is lost
//
// After M3 the epoch says that there are tags. The hash that M4 has read is then removed only
// by an operation that raises the floor above t, or begins another epoch.
//
// If the epoch says that there are tags and the hash is not of its epoch, the tags were lost:
//
//	F.  the floor is raised to a new time, and the epoch says that there are no tags
//
// and the steps are repeated. A hash that M2 has begun must not hide such a loss:
//
//  1. M1: the epoch says that there are no tags
//  2. another process marks another tag, as one script: there is a hash. It is evicted
//  3. M2 begins a hash. A reader finds the epoch in it, and no tombstone of that other tag
//
// So the hash belongs to a token first, which is not an epoch: to all other processes the tags
// are lost. M3 is refused if the epoch says by then that there are tags, and M4 replaces the
// token by the epoch.
//
// A hash of another epoch is removed in a step of its own, because a script can't write to a key
// that it has removed while the slot moves. If another process has begun that hash meanwhile,
// it is lost, and the loss is detected.

// stepScript: ARGV[1] to ARGV[4] as in readClockScript. ARGV[5] is "touch", or for the epoch ARGV[6]
// "mark", "begin" for a tombstone in a new hash, or "floor", ARGV[7] the time of the tombstone, ARGV[8] a
// channel or "", ARGV[9] the message, ARGV[10] and on the texts of the tombstones. It answers "" if
// it is refused, otherwise the tick before it, the time, and the epoch as it is stored, each on a line.
var stepScript = newUrgentScript(touchEpoch, resume+`
if ARGV[5] ~= 'touch' and number(e[1]) ~= ARGV[6] then return '' end
if ARGV[5] == 'begin' and e[9] == 1 then return '' end
if ARGV[5] == 'mark' or ARGV[5] == 'begin' then
  e[3] = math.max(e[3], tonumber(ARGV[7]))
  e[9] = 1
elseif ARGV[5] == 'floor' and e[9] == 1 then
  e[3] = math.max(e[3] + 1, now)
  e[4] = e[3]
  e[9] = 0
end
put(e)
local answer = number(found) .. '\n' .. number(now) .. '\n' .. text('e1', e)
if ARGV[8] and ARGV[8] ~= '' then
  e[9] = 0
  local lines = {ARGV[9] .. number(now), text('e1', e)}
  for i = 10, #ARGV do lines[#lines + 1] = ARGV[i] end
  local all = table.concat(lines, '\n')
  local told = redis.pcall('PUBLISH', ARGV[8], all)
  if type(told) == 'table' then return told end
  told = redis.pcall('PUBLISH', ARGV[8] .. ':c', all)
  if type(told) == 'table' then return told end
end
return answer
`)

// tagsScript: KEYS[1] is the hash, ARGV[1] the epoch, ARGV[2] the clock, ARGV[3] "1" if the epoch
// says that there are tags, ARGV[4] a token; to write, ARGV[5] is the mode, otherwise "",
// ARGV[6] as in addText, ARGV[7] the time of the tombstone; ARGV[8] and on are tags. It answers
// "mark", or "begin" if the hash belongs to the token, and the texts of the tombstones, each on a
// line; or "lost"; or "stale" if the key has another value that is to be removed.
var tagsScript = newUrgentScript(touchTags, markBase+addText+inLua(`
local hash, failed = look('HGET', KEYS[1], '')
if failed then return failed end
local write, finish = ARGV[5] ~= '', ARGV[5] == '' and hash == ARGV[4]
local ours = hash == ARGV[1] or finish
if not ours then
  if ARGV[3] == '1' then return 'lost' end
  if redis.call('PTTL', KEYS[1]) ~= -2 then return 'stale' end
end
local times, marks = timesOf(5), {}
for i = 8, #ARGV do
  local m = marks[ARGV[i]]
  if not m then
    local s = ours and redis.call('HGET', KEYS[1], 't:' .. ARGV[i])
    m = {0, 0, 0, 0}
    if s then m = parse(s, 'm1', 4) end
    if not m or last(m) > latest then m = {tonumber(ARGV[2]), 0, 0, 0} end
    marks[ARGV[i]] = m
  end
  if write then add(m, tonumber(ARGV[7]), 5, times[i - 7]) end
end
local lines = {ours and 'mark' or 'begin'}
for i = 8, #ARGV do lines[#lines + 1] = text('m1', marks[ARGV[i]]) end
if finish then redis.call('HSET', KEYS[1], '', ARGV[1]) end
if write then
  redis.call('HSET', KEYS[1], '', ours and ARGV[1] or ARGV[4])
  for i = 8, #ARGV do redis.call('HSET', KEYS[1], 't:' .. ARGV[i], text('m1', marks[ARGV[i]])) end
  redis.call('PEXPIRE', KEYS[1], LIFE)
end
return table.concat(lines, '\n')
`))

// steps is the logical clock of names while its slot moves.
type steps struct {
	store *Redis
	names store.Names
	known logicalclock.Known
	tags  []string
	token string

	found int64 // the tick before the first step on the epoch; -1: there was none yet

	// The answer of the last step on the epoch.
	now int64
	e   logicalclock.Epoch
	has bool // whether there are tags
}

// epoch carries out a step on the epoch. It reports whether the epoch is still the same.
func (st *steps) epoch(ctx context.Context, op string, more ...any) (same bool, err error) {
	args := []any{st.known.Epoch, st.known.Tick, st.known.Clock, logicalclock.NewEpochID(), op}
	text, err := st.store.runText(ctx, stepScript, []string{st.names.Epoch}, append(args, more...))
	if err != nil || text == "" {
		return false, err
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 3 {
		return false, logicalclock.ErrNoClock
	}
	var found, now [1]int64
	e, has, ok := logicalclock.ReadEpoch(lines[2])
	ok = ok && logicalclock.Numbers(" "+lines[0], "", found[:]) && logicalclock.Numbers(" "+lines[1], "", now[:])
	if !ok || !e.Sound() || !e.By(logicalclock.Latest(now[0])) {
		return false, logicalclock.ErrNoClock
	}
	if st.now, st.e, st.has = now[0], e, has; st.found < 0 {
		st.found = found[0]
	}
	return true, nil
}

// hash carries out a step on the hash of tags. If marks is nil, all steps are to be repeated.
// op is "begin" if the hash was begun.
func (st *steps) hash(ctx context.Context, mode, when any, t int64) (op string, marks []logicalclock.Tombstone, err error) {
	has := 0
	if st.has {
		has = 1
	}
	args := []any{st.e.ID, st.e.Clock, has, st.token, mode, when, t}
	for _, tag := range st.tags {
		args = append(args, tag)
	}
	text, err := st.store.runText(ctx, tagsScript, []string{st.names.Tags}, args)
	switch {
	case err != nil:
		return "", nil, err
	case text == "lost":
		_, err = st.epoch(ctx, "floor", st.e.ID)
		return "", nil, err
	case text == "stale":
		return "", nil, st.store.Do(ctx, []store.Command{{Op: store.Delete, Key: st.names.Tags}})[0].Err
	}
	lines := strings.Split(text, "\n")
	if op = lines[0]; op != "mark" && op != "begin" || len(lines) != 1+len(st.tags) {
		return "", nil, logicalclock.ErrNoClock
	}
	for _, line := range lines[1:] {
		m, ok := logicalclock.ReadTombstone(line)
		if !ok {
			return "", nil, logicalclock.ErrNoClock
		}
		marks = append(marks, m)
	}
	return op, marks, nil
}

// readClockInSteps is Marks in steps.
func (s *Redis) readClockInSteps(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	st := steps{store: s, names: names, known: known, tags: tags, found: -1}
	for range stepsAgain {
		if _, err := st.epoch(ctx, "touch"); err != nil { // Q1
			return logicalclock.Reading{}, err
		}
		out := logicalclock.Reading{Epoch: st.e, Now: st.now, Found: st.found}
		if !st.has {
			out.Tags = make([]logicalclock.Tombstone, len(tags))
			return out, nil
		}
		_, marks, err := st.hash(ctx, "", "", 0) // Q2
		if err != nil {
			return logicalclock.Reading{}, err
		}
		if marks == nil {
			continue
		}
		if _, err := st.epoch(ctx, "touch"); err != nil { // Q3
			return logicalclock.Reading{}, err
		}
		if st.e.ID != out.Epoch.ID || st.e.LowWatermark != out.Epoch.LowWatermark {
			continue
		}
		clip(marks, out.Epoch.Clock)
		out.Tags = marks
		return out, nil
	}
	return logicalclock.Reading{}, errSteps
}

// addTombstonesInSteps is Mark of tags, in steps. It forgets no tags.
func (s *Redis) addTombstonesInSteps(ctx context.Context, names store.Names, known logicalclock.Known, n *logicalclock.NewTombstone) (logicalclock.Reading, error) {
	st := steps{store: s, names: names, known: known, tags: n.Tags, found: -1}
	for range stepsAgain {
		st.token = "new " + rand.Text()
		if _, err := st.epoch(ctx, "touch"); err != nil { // M1
			return logicalclock.Reading{}, err
		}
		t := max(st.e.Clock+1, st.now)
		when := whenOf(n)
		if n.Mode == logicalclock.Hard && st.e.Tick-st.now > logicalclock.GoneBack {
			when = ""
		}
		op, marks, err := st.hash(ctx, uint8(n.Mode), when, t) // M2
		if err != nil {
			return logicalclock.Reading{}, err
		}
		if marks == nil {
			continue
		}
		for i := range marks {
			t = max(t, marks[i].Last()) // of another process, whose tombstone is not complete yet
		}
		args := []any{st.e.ID, t, n.Channel, n.Message}
		for i := range marks {
			args = append(args, marks[i].Text())
		}
		if same, err := st.epoch(ctx, op, args...); err != nil { // M3
			return logicalclock.Reading{}, err
		} else if !same {
			continue
		}
		out := logicalclock.Reading{Epoch: st.e, Now: st.now, Found: st.found}
		if _, out.Tags, err = st.hash(ctx, "", "", 0); err != nil { // M4
			return logicalclock.Reading{}, err
		}
		if out.Tags != nil && said(marks, out.Tags) {
			clip(out.Tags, st.e.Clock)
			return out, nil
		}
	}
	return logicalclock.Reading{}, errSteps
}

// said reports whether the tombstones in found include all that is in wrote.
func said(wrote, found []logicalclock.Tombstone) bool {
	for i, w := range wrote {
		f := found[i]
		if w.Dated() && f.Dated() && f.When < w.When {
			return false
		}
		if f.Hard < w.Hard || f.Soft < w.Soft || max(f.Next, f.Hard) < w.Next {
			return false
		}
	}
	return true
}

// clip limits the times of tombstones to the clock.
func clip(marks []logicalclock.Tombstone, clock int64) {
	for i := range marks {
		m := &marks[i]
		m.Hard, m.Soft, m.Next = min(m.Hard, clock), min(m.Soft, clock), min(m.Next, clock)
	}
}

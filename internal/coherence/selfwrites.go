package coherence

import (
	"strings"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// selfWrites distinguishes this process's changes of keys from those of other clients when the
// transport is Tracking. The server reports every change, without its author: also this
// process's own writes, leases and fills. If those counted as foreign, no load would ever get
// into the local tier. Nor can they be counted and skipped: changes that come close together
// are reported once, and a foreign change may be among them.
//
// So a change of a key that this process has changed recently is verified: if Redis holds
// exactly what this process stored last, nothing else has happened to the key, or the foreign
// change came before; otherwise the key is dropped. Until that is known, which takes one round
// trip, the key stays. Changes of all other keys take effect at once.
//
//  1. this process stores v1; its acknowledgement arrives, v1 is in the local tier
//  2. another client stores v2
//  3. the server reports both in one message
//  4. the key is read, and does not hold v1: it is dropped
//
// While a command of this process is in flight, the expected record is not known; the check is
// put off until there is a reply.
type selfWrites struct {
	mu         sync.Mutex                // guards what follows
	inFlight   map[string]*inFlightWrite // commands in flight, by Redis key
	current    map[string]ownState       // what this process stored last
	past       map[string]ownState       // the previous generation of current
	turned     int64                     // local time when current was started
	version    uint64                    // of the last state
	unverified map[string]struct{}       // keys to verify

	wake chan struct{} // there are keys to verify
}

type inFlightWrite struct {
	commands   int
	unverified bool // a change was reported meanwhile
}

type ownState struct {
	seen    store.CASToken
	version uint64
}

const (
	// An own change is remembered for one to two of these, in nanoseconds.
	ownLife = int64(2e9)
	// maxOwn bounds a generation. Own changes that are forgotten cost own hits.
	maxOwn = 10_000
	// verifyBatch bounds how many keys are verified in one round trip.
	verifyBatch = 256
)

func (o *selfWrites) init() {
	o.inFlight, o.unverified = map[string]*inFlightWrite{}, map[string]struct{}{}
	o.wake = make(chan struct{}, 1)
	o.forget()
}

// forget discards the own changes: a new session has begun.
func (o *selfWrites) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current, o.past = map[string]ownState{}, map[string]ownState{}
}

func (o *selfWrites) begin(redisKey string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.inFlight[redisKey]
	if f == nil {
		f = &inFlightWrite{}
		o.inFlight[redisKey] = f
	}
	f.commands++
}

// end takes the outcome of a command: took says that the key holds the record after now, as far
// as this process knows. drop reports that a foreign change was reported meanwhile.
func (o *selfWrites) end(redisKey string, after store.CASToken, took bool, at int64) (drop bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if took {
		if at-o.turned > ownLife || len(o.current) >= maxOwn {
			o.past, o.current, o.turned = o.current, map[string]ownState{}, at
		}
		o.version++
		o.current[redisKey] = ownState{after, o.version}
	} else {
		delete(o.current, redisKey)
		delete(o.past, redisKey)
	}
	f := o.inFlight[redisKey]
	if f == nil {
		return false
	}
	if f.commands--; f.commands > 0 {
		return false
	}
	delete(o.inFlight, redisKey)
	return f.unverified && !o.unverifyLocked(redisKey)
}

func (o *selfWrites) lookLocked(redisKey string) (ownState, bool) {
	s, ok := o.current[redisKey]
	if !ok {
		s, ok = o.past[redisKey]
	}
	return s, ok
}

// maybeOwn reports whether a reported change may be this process's own, and then schedules its
// verification.
func (o *selfWrites) maybeOwn(redisKey string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unverifyLocked(redisKey)
}

func (o *selfWrites) unverifyLocked(redisKey string) bool {
	if f := o.inFlight[redisKey]; f != nil {
		f.unverified = true
		return true
	}
	if _, ok := o.lookLocked(redisKey); !ok {
		return false
	}
	o.unverified[redisKey] = struct{}{}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns some keys to verify, and the versions of their expected records.
func (o *selfWrites) take() (keys []string, versions []uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.unverified {
		if len(keys) == verifyBatch {
			break
		}
		s, _ := o.lookLocked(k)
		keys, versions = append(keys, k), append(versions, s.version)
		delete(o.unverified, k)
	}
	return keys, versions
}

// answer takes the record of a key that was taken at a version, and reports whether it is this
// process's own or has to be verified again.
func (o *selfWrites) answer(redisKey string, version uint64, rec store.Record) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.lookLocked(redisKey)
	if !ok {
		return false
	}
	if o.inFlight[redisKey] != nil || s.version != version {
		return o.unverifyLocked(redisKey)
	}
	return s.seen == rec.CASToken()
}

// tracks reports whether the server reports changes of a key.
func (a *Coordinator) tracks(redisKey string) bool {
	return a.cfg.Transport.tracks() && strings.HasPrefix(redisKey, a.cfg.Names.Data)
}

// ownBegin is called before a command is sent.
func (a *Coordinator) ownBegin(c *store.Command) {
	if a.tracks(c.Key) {
		a.selfWrites.begin(c.Key)
	}
}

// ownEnd is called with the outcome of a command that ownBegin was called for.
func (a *Coordinator) ownEnd(c *store.Command, reply *store.Reply) {
	if !a.tracks(c.Key) {
		return
	}
	// Own deletions are not remembered: a missing key does not show which client removed it.
	//
	//  1. this process deletes a key
	//  2. another client stores a value, which is read into the local tier
	//  3. it is deleted by hand: the key is missing, as after 1
	var after store.CASToken
	took := reply.OK && reply.Err == nil
	switch c.Op {
	case store.Set, store.SetNX, store.CompareAndSet:
		after = store.TokenOf(c.Frame)
	case store.Extend:
		after = c.Seen
	default:
		took = false
	}
	if a.selfWrites.end(c.Key, after, took, now()) {
		a.dropReported(c.Key)
	}
}

// verifyWait is how long the verification of changes at one node of a cluster holds up those at others. A
// change at a node that takes longer counts as another client's.
const verifyWait = 250 * time.Millisecond

// verify verifies reported changes until the coordinator is closed.
func (a *Coordinator) verify() {
	busy := map[string]chan struct{}{} // by node: closed when it has answered
	for {
		select {
		case <-a.selfWrites.wake:
		case <-a.ctx.Done():
			return
		}
		for {
			keys, versions := a.selfWrites.take()
			if len(keys) == 0 {
				break
			}
			if len(a.parts) == 1 {
				a.verifyKeys(keys, versions)
			} else {
				a.verifyByNode(keys, versions, busy)
			}
			if a.ctx.Err() != nil {
				return
			}
		}
	}
}

// verifyKeys verifies reported changes of keys, of which the records are expected to have these versions.
func (a *Coordinator) verifyKeys(keys []string, versions []uint64) {
	cmds := make([]store.Command, len(keys))
	for i, k := range keys {
		cmds[i] = store.Command{Op: store.GetHeader, Key: k}
	}
	replies := a.cfg.Client.Do(a.ctx, cmds)
	if a.ctx.Err() != nil {
		return // closed: the local tier is emptied anyway, and nothing was invalidated
	}
	for i, reply := range replies {
		if reply.Err != nil || !a.selfWrites.answer(keys[i], versions[i], reply.Record) {
			a.dropReported(keys[i])
		}
	}
}

// verifyByNode is verifyKeys for those of each node by themselves. It does not wait long for a node that
// does not answer.
func (a *Coordinator) verifyByNode(keys []string, versions []uint64, busy map[string]chan struct{}) {
	at := map[string][]int{}
	for i, k := range keys {
		node := a.nodeOf(k)
		at[node] = append(at[node], i)
	}
	for node, of := range at {
		nodeKeys, nodeVersions := make([]string, len(of)), make([]uint64, len(of))
		for j, i := range of {
			nodeKeys[j], nodeVersions[j] = keys[i], versions[i]
		}
		if answered := busy[node]; answered != nil {
			select {
			case <-answered:
			default:
				for _, k := range nodeKeys {
					a.dropReported(k)
				}
				delete(at, node)
				continue
			}
		}
		answered := make(chan struct{})
		busy[node] = answered
		a.wg.Go(func() {
			defer close(answered)
			a.verifyKeys(nodeKeys, nodeVersions)
		})
	}
	late := time.NewTimer(verifyWait)
	defer late.Stop()
	for node := range at {
		select {
		case <-busy[node]:
			delete(busy, node)
		case <-late.C:
			return
		case <-a.ctx.Done():
			return
		}
	}
}

// dropReported drops a key of which the server reported a change that may be another client's. In a
// session by key it counts as an invalidation received; otherwise its message does.
func (a *Coordinator) dropReported(redisKey string) {
	a.drop(redisKey[len(a.cfg.Names.Data):])
	if a.Of(redisKey).byKey.Load() {
		a.cfg.Events.Received(1)
	}
}

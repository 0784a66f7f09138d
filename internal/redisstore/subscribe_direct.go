package redisstore

import (
	"context"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"
)

// A server queues each message that it publishes for each connection that has subscribed, and
// closes a connection whose queue is too long. So a message is lost only with the connection,
// if the node that carries out the commands of the client is the one that has the subscription.
// That takes two things to know:
//
//   - The server says that it is alone, and not a node of a cluster. In front of a cluster may be
//     a proxy that looks like one server: what a node publishes then may reach the subscription
//     over the bus of the cluster, which may lose it.
//   - Of the channel of a heartbeat, which only this session knows, the node has a subscriber.
//
// Where either is refused, or not as it should be, messages are expected to be lost alone.
//
// Several servers behind one address may each say that they are alone, and heartbeats show only that
// one of them has the subscription. So subscribers go on to count, and say if a message was lost all
// the same. What has failed once for a client is not tried again; see [distrust].

// countEvery is in which rounds a session that is direct looks whether it still is: in each third
// one. The others notice it as well if nothing on the other server has subscribed by a pattern.
const countEvery = 3

// proof is what is known of that. Session.mu guards it.
type proof struct {
	mode   mode
	hears  []bool // by master: its node has the subscription
	doubts []bool // by master: it had, and the latest answer is that it has not
	direct bool   // all do
	rounds int    // since the last one that counted
}

// mode is what the masters say that they are.
type mode uint8

const (
	modeUnknown    mode = iota
	modeAsked           // the answers are awaited
	modeStandalone      // each is alone
	modeOther           // not all are, or one may not be asked
)

// counts reports whether a round that begins now is to count subscriptions.
func (p *proof) counts() bool {
	p.rounds++
	if p.mode != modeStandalone || p.direct && p.rounds < countEvery {
		return false
	}
	p.rounds = 0
	return true
}

// askModes asks the masters what they are, unless that is known.
func (s *session) askModes() {
	s.mu.Lock()
	ask := s.store.cluster == nil && s.proof.mode == modeUnknown
	if ask {
		s.proof.mode = modeAsked
	}
	s.mu.Unlock()
	if !ask {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.key.timeout)
	defer cancel()
	m := modeStandalone
	if distrusted.has(s.key.rdb) {
		m = modeOther
	}
	for i := range s.masters {
		if m == modeOther {
			break
		}
		end := takeTurn(ctx, s.masters[i].rdb)
		alone, err := asksAlone(ctx, s.masters[i].rdb)
		end()
		if err != nil {
			m = modeUnknown // asked again, after the next round
			break
		}
		if !alone {
			m = modeOther
		}
	}
	s.mu.Lock()
	s.proof.mode = m
	open := s.open // otherwise the first round counts
	s.mu.Unlock()
	if m == modeStandalone && open {
		s.startRoundSoon()
	}
}

// asksAlone asks a server whether it is part of a cluster. A proxy may answer for itself what it is,
// and pass on the rest.
func asksAlone(ctx context.Context, node redis.UniversalClient) (bool, error) {
	alone, err := isAlone(node.Info(ctx, "server").Result())
	if !alone || err != nil {
		return alone, err
	}
	info, err := node.Info(ctx, "cluster").Result()
	if err != nil {
		return unlessRefused(err) == nil, unlessRefused(err)
	}
	return field(info, "cluster_enabled") != "1", nil
}

// isAlone reports whether a server says by INFO that it is not part of a cluster. It does not if it
// refuses to say.
func isAlone(info string, err error) (bool, error) {
	var refused redis.Error
	if errors.As(err, &refused) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	mode := field(info, "redis_mode")
	if mode == "" {
		mode = field(info, "server_mode") // Valkey
	}
	return mode == "standalone", nil
}

var (
	// errElsewhere ends a session whose subscription is not on the node that commands are sent to.
	errElsewhere = errors.New("redisstore: the subscription is on another server")
	// errLostAlone ends a session that was direct, although a message was lost.
	errLostAlone = errors.New("redisstore: a message was lost although its connection lives")
)

// disprove ends a session that was direct, because a subscriber misses a message.
func (s *session) disprove() {
	distrusted.add(s.key.rdb)
	s.end(errLostAlone)
}

// prove takes the answer to a heartbeat; see Redis.pulse. A session that was direct ends if its
// subscription turns out not to be on the server any more, though heartbeats may come back:
//
//  1. a replica takes the place of its master, by hand; the subscription stays on the former one
//  2. the former one becomes its replica, and copies its data
//  3. a message that is published in between does not reach the former one
//  4. heartbeats do, later, as part of what is replicated
//
// The server may also have closed the connection, which is not noticed yet:
//
//  1. the server closes the connection of the subscription
//  2. it is asked, and has no subscription any more
//  3. the answer arrives
//  4. the end of the connection is noticed
//
// That says nothing about the client's address. So it is asked once more before the session ends for
// this reason, and one that has ended learns nothing.
func (s *session) prove(master int, heard int64) {
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		return
	}
	p := &s.proof
	if heard == notAllowed {
		// Each refusal is an entry in the server's log.
		p.mode = modeOther
		distrusted.add(s.key.rdb)
	}
	if heard < 0 || p.mode != modeStandalone {
		s.mu.Unlock()
		return
	}
	if p.hears == nil {
		p.hears, p.doubts = make([]bool, len(s.masters)), make([]bool, len(s.masters))
	}
	if heard == 0 {
		lost := p.doubts[master]
		if p.hears[master] && !lost {
			p.doubts[master], p.rounds, s.again = true, countEvery, true // the next round counts, and is due
		}
		s.mu.Unlock()
		if lost {
			distrusted.add(s.key.rdb)
			s.end(errElsewhere)
		}
		return
	}
	p.hears[master], p.doubts[master] = true, false
	first := !p.direct && !slices.Contains(p.hears, false)
	p.direct = p.direct || first
	s.mu.Unlock()
	if first {
		for _, m := range s.all() {
			m.direct()
		}
	}
}

// isDirect reports whether no message can be lost alone.
func (s *session) isDirect() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proof.direct
}

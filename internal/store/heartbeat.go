package store

import (
	"errors"
	"time"
)

// Check refuses a Subscription that is not valid.
func (l *Subscription) Check() error {
	switch {
	case l.Channel == "":
		return errors.New("store: listen to no channel")
	case l.HeartbeatInterval <= 0 || l.HeartbeatTimeout <= 0:
		return errors.New("store: listen without a pulse")
	}
	return checkWaiter(l.Waiter)
}

// Rounds are the heartbeat rounds of one session that have not come back yet, the oldest first.
// Callers synchronise access to it.
type Rounds struct {
	last  int64 // number of the latest, from 1 on
	began []round
}

type round struct {
	number  int64
	sent    time.Time
	back    []bool // by master
	missing int
}

// Start begins a round of one heartbeat through each of so many masters.
func (r *Rounds) Start(now time.Time, masters int) int64 {
	r.last++
	r.began = append(r.began, round{r.last, now, make([]bool, masters), masters})
	return r.last
}

// Returned records a heartbeat that came back. If it completes its round, ok is true; the
// earlier rounds are then dropped too: that one of their heartbeats was lost or overtaken says
// no more than this round does.
func (r *Rounds) Returned(number int64, master int) (sent time.Time, ok bool) {
	for i := range r.began {
		b := &r.began[i]
		if b.number != number {
			continue
		}
		if master < 0 || master >= len(b.back) || b.back[master] {
			return time.Time{}, false // a heartbeat may be published twice
		}
		b.back[master] = true
		if b.missing--; b.missing > 0 {
			return time.Time{}, false
		}
		sent = b.sent
		r.began = append(r.began[:0], r.began[i+1:]...)
		return sent, true
	}
	return time.Time{}, false
}

// Wait returns how long the oldest round may still take; 0 or less: too long. Without a round
// in flight it is the time that the next round will have.
func (r *Rounds) Wait(now time.Time, dead time.Duration) time.Duration {
	if len(r.began) == 0 {
		return dead
	}
	return r.began[0].sent.Add(dead).Sub(now)
}

package store

import (
	"errors"
	"time"
)

// check refuses what nobody can listen to.
func (l *Subscription) Check() error {
	switch {
	case l.Channel == "":
		return errors.New("store: listen to no channel")
	case l.HeartbeatInterval <= 0 || l.HeartbeatTimeout <= 0:
		return errors.New("store: listen without a pulse")
	}
	return nil
}

// rounds are the heartbeats of one session that have not come back yet, the oldest
// first. Whoever uses them has a lock.
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

// start begins a round of one pulse through each of so many masters.
func (r *Rounds) Start(now time.Time, masters int) int64 {
	r.last++
	r.began = append(r.began, round{r.last, now, make([]bool, masters), masters})
	return r.last
}

// Returned takes note of a heartbeat. If it completes its round, ok is true; the rounds
// before that one are then done with too: that one of their heartbeats was lost, or was
// overtaken, says no more than this round does.
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

// wait says how long the oldest round may still take; 0 or less: too long. Without
// one, it is what the next round will have.
func (r *Rounds) Wait(now time.Time, dead time.Duration) time.Duration {
	if len(r.began) == 0 {
		return dead
	}
	return r.began[0].sent.Add(dead).Sub(now)
}

package coherence

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/delqhi/cache/internal/store"
)

const (
	// Backoff, at first and at most, between attempts to deliver.
	notifyFirst = 100 * time.Millisecond
	notifyMost  = 5 * time.Second
	// notifySoon is the minimum time between two attempts if something new is pending.
	notifySoon = 500 * time.Millisecond

	// flushOnCloseTime bounds the last attempt to deliver, in Close, and closePoll is how often Close looks
	// whether another goroutine has delivered what it took.
	flushOnCloseTime = 2 * time.Second
	closePoll        = time.Millisecond
)

// maintain does the periodic work and the retries, until the coordinator is closed.
func (a *Coordinator) maintain() {
	first, touch := tick, false
	if len(a.parts) > 1 {
		// Processes that start together do not look at the clocks at the same moments; see touchByNode.
		first, touch = 1+rand.N(tick), rand.N(2) == 0
	}
	t := time.NewTicker(first)
	defer t.Stop()
	pause, next, last := notifyFirst, time.Time{}, time.Time{}
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	calm := store.Patient(a.ctx)
	lives := time.Now().Add(renewLifeFirst)
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-t.C:
			if first != tick {
				first = tick
				t.Reset(tick)
			}
			if !time.Now().Before(lives) {
				lives = time.Now().Add(a.renewLives(calm))
			}
			a.watermark(false)
			if a.cfg.Transport != None && a.inbox.Tick(now()) {
				a.missedAlone()
			}
			for _, p := range a.parts {
				p.rest.note(p.Clock.Known(), now())
			}
			if touch = !touch; touch && a.cfg.Transport != None && (a.Connected(now()) || len(a.parts) > 1) {
				a.touch(calm, touch)
			}
			if a.cfg.Transport == None {
				// No heartbeat finds out whether Redis is still a master: this read does.
				a.touch(a.ctx, touch)
			}
			a.firstLook()
			a.unverifyConnections()
		case <-a.woken:
			// A new invalidation may get through although an older one does not.
			if soon := last.Add(notifySoon); soon.Before(next) {
				next = soon
				retry.Reset(time.Until(soon))
			}
		case <-a.redisUp:
			pause, next = notifyFirst, time.Time{}
		case <-retry.C:
		}
		if a.queue.Len() == 0 || time.Now().Before(next) {
			continue
		}
		if a.notify(a.ctx) {
			pause, next = notifyFirst, time.Time{}
			continue
		}
		last = time.Now()
		next = last.Add(pause)
		retry.Reset(pause)
		pause = min(2*pause, notifyMost)
	}
}

// watermark publishes the number up to which this process's messages have been published. It is
// needed by those who can't be sure that none is lost alone, even if this process can: another
// path may lead there.
func (a *Coordinator) watermark(closing bool) {
	if closing && a.queue.Len() > 0 {
		a.Outbox.Lose()
	}
	a.invalidator.Watermark(a.ctx, closing)
}

// flushOnClose delivers what still can be delivered.
func (a *Coordinator) flushOnClose() {
	ctx, cancel := context.WithTimeout(a.ctx, flushOnCloseTime)
	defer cancel()
	for a.queue.Len() > 0 {
		// Another goroutine may be delivering some. The end of Close would cancel that, and what
		// it does not get through is to be tried again.
		busy := a.notifying.Load() > 0
		if a.notify(ctx) || !busy {
			break
		}
		t := time.NewTimer(closePoll)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		if t.Stop(); ctx.Err() != nil {
			break
		}
	}
	a.watermark(true)
}

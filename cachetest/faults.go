package cachetest

import "time"

// faults are what a process suffers from.
type faults struct {
	redis         bool          // nothing is reached
	notifications bool          // no subscription is possible
	delay         time.Duration // of all that comes from the server
}

// CutRedis separates all processes from Redis, those that are yet to come included: their
// connections break, and no new ones are made. Answers that are on their way are lost; what
// the server has received it executes. Redis keeps its data. A cache notices in a moment: in a
// bubble, call synctest.Wait where that matters.
func (e *Env) CutRedis() { e.each((*Process).CutRedis, func(f *faults) { f.redis = true }) }

// CutNotifications breaks the connections by which processes are notified, which are those
// that have subscribed to a channel, and lets none be made. Other commands are executed. A
// cache notices in a moment, see CutRedis, and does not use its local tier until it is notified again.
func (e *Env) CutNotifications() {
	e.each((*Process).CutNotifications, func(f *faults) { f.notifications = true })
}

// Slow has each answer of Redis, and each notification, arrive d later than it otherwise
// would. What was sent before is not delayed. The last call counts. An answer that takes
// longer than cache.WithTimeout is none for a cache, although Redis has executed the command.
func (e *Env) Slow(d time.Duration) {
	e.tb.Helper()
	e.checkDelay(d)
	e.each(func(p *Process) { p.slow(d) }, func(f *faults) { f.delay = d })
}

// Heal ends CutRedis, CutNotifications and Slow, for all processes. What was delayed arrives
// at once. Caches make their connections anew when they next try, which they do at growing
// intervals of some seconds at most; in a bubble, Advance by 5 seconds brings everything
// back.
func (e *Env) Heal() { e.each((*Process).Heal, func(f *faults) { *f = faults{} }) }

// each calls f with each process, and change with the faults of those that are yet to come.
func (e *Env) each(f func(*Process), change func(*faults)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.faults)
	for _, p := range e.processes {
		f(p)
	}
}

func (e *Env) checkDelay(d time.Duration) {
	e.tb.Helper()
	if d < 0 {
		e.tb.Fatalf("cachetest: Slow(%v): it must not be negative", d)
	}
}

// CutRedis is [Env.CutRedis] for this process alone, as when its host loses the network.
func (p *Process) CutRedis() {
	p.mu.Lock()
	p.faults.redis = true
	p.mu.Unlock()
	p.cut(errCut, func(*link) bool { return true })
}

// CutNotifications is [Env.CutNotifications] for this process alone.
func (p *Process) CutNotifications() {
	p.mu.Lock()
	p.faults.notifications = true
	p.mu.Unlock()
	p.cut(errNotificationsCut, func(l *link) bool { return l.subscribed })
}

// Slow is [Env.Slow] for this process alone.
func (p *Process) Slow(d time.Duration) {
	p.env.tb.Helper()
	p.env.checkDelay(d)
	p.slow(d)
}

func (p *Process) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.delay = d
	for l := range p.links {
		l.inbox.setDelay(d)
	}
}

// Heal is [Env.Heal] for this process alone.
func (p *Process) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults{}
	for l := range p.links {
		l.inbox.setDelay(0)
		l.inbox.hurry()
	}
}

// cut ends the links that which chooses, for a reason.
func (p *Process) cut(reason error, which func(*link) bool) {
	p.mu.Lock()
	var links []*link
	for l := range p.links {
		if which(l) {
			links = append(links, l)
		}
	}
	p.mu.Unlock()
	for _, l := range links {
		l.end(reason)
	}
}

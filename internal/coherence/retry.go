package coherence

import "github.com/delqhi/cache/internal/retryqueue"

// maxPending is how many keys and tags can be pending or queued for replay: more than can be recent.
// Beyond it, everything is invalidated when Redis is back.
const maxPending = 1 << 19

// scheduleRetry queues a key whose write or invalidation Redis has not acknowledged. Until it
// has been delivered, the key is read past the local tier, and Redis's record of it is not
// trusted; see [Coordinator.Outdated].
func (a *Coordinator) scheduleRetry(it retryqueue.Item) {
	it.At = a.atLatest(&it)
	if a.addItem(it) {
		a.cfg.Events.Overflowed()
	}
	a.start()
	a.wakeUp()
}

// atLatest is the latest that the time of an operation may have been, 0 if it is not known.
func (a *Coordinator) atLatest(it *retryqueue.Item) int64 {
	if it.At == 0 {
		return 0
	}
	return it.At + a.cfg.Client.ClockError(it.Key)
}

// scheduleTombstones queues an invalidation of tags, or of everything if there are none, in this
// part, that Redis has not acknowledged: of records written or loaded before the local time began. The
// local tier is flushed now, unless it removes what has a tag. numbers are those of messages that
// stay open until Redis has it.
func (p *Part) scheduleTombstones(tags []string, numbers []uint64, began int64) {
	a := p.a
	if a.addTombstones(p.tagSubjects(tags), numbers, p.pastOf(began)) {
		a.cfg.Events.Overflowed()
	}
	if len(tags) > 0 && a.cfg.RemoveTagged != nil {
		a.cfg.RemoveTagged(tags)
		a.changedAny()
		a.wakeAll()
	} else {
		p.flush()
	}
	a.start()
	a.wakeUp()
}

// schedulePattern queues an invalidation by a pattern that did not reach all of its keys. The
// parameters are those of scheduleTombstones.
func (a *Coordinator) schedulePattern(pattern string, numbers []uint64, began int64) {
	if a.addTombstones(subjects(aPattern, []string{pattern}), numbers, a.parts[0].pastOf(began)) {
		a.cfg.Events.Overflowed()
	}
	a.start()
	a.wakeUp()
}

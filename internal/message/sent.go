package message

// Sent is a message with a number, which is in flight until Resolve or ResolveEach. The
// zero value is no message, and Resolve does nothing.
type Sent struct {
	outbox *Outbox
	number uint64
}

// Resolve records what became of the message, which was sent with a command, to be published if
// the command takes effect. took says whether it did, and matters only if err is nil. With an
// error, it is unknown whether the message was published, or will be: its number is open, and is
// returned; see [Outbox.Skip].
//
// If a message need not be repeated, the caller does not pass on the error: then the number is
// skipped.
func (s Sent) Resolve(took bool, err error) (open []uint64) {
	switch {
	case s.outbox == nil:
	case err != nil:
		s.outbox.fail(s.number)
		return []uint64{s.number}
	case took:
		s.outbox.Done(s.number)
	default:
		s.outbox.Skip(s.number)
	}
	return nil
}

// ResolveEach is Resolve for a message about several things. If it is unknown whether the message
// was published, they will be published again one by one: each gets a number of its own, which is
// open, and that of the message is skipped. Resolve of each, with the error, returns its number.
func (s Sent) ResolveEach(things int, published bool) (each []Sent) {
	o := s.outbox
	if published {
		o.Done(s.number)
		return nil
	}
	each = make([]Sent, things)
	o.mu.Lock()
	part := o.inFlight[s.number]
	for i := range each {
		o.last++
		each[i] = Sent{o, o.last}
		o.failLocked(o.last, failed{part, true})
	}
	o.mu.Unlock()
	o.Skip(s.number)
	return each
}

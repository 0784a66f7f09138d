package linearizability

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// kind is what an operation does.
type kind uint8

const (
	get kind = iota
	set
	remove
	setIfAbsent
	add    // Update by f(old) = old + n
	expire // Set with a life that is over: removes
	revoke // Invalidate
	// maybeRemove may remove the value at any time after its call, or never: what a
	// process could not tell Redis, it tells later as an invalidation.
	maybeRemove
)

// input is an operation on one key.
type input struct {
	key  int
	kind kind
	n    int64
}

// output is what its caller was told.
type output struct {
	unknown bool // an error: it took effect, or not, or will
	ok      bool // get: there was a value; setIfAbsent: it was stored
	n       int64
}

// register is the state of a key.
type register struct {
	present bool
	n       int64
}

var none = register{}

// step returns the states that may follow, none if the output can't be.
func (r register) step(in input, out output) []register {
	next, ok := r.apply(in, out)
	switch {
	case in.kind == maybeRemove:
		return []register{r, none}
	case out.unknown:
		return []register{r, r.effect(in)}
	case !ok:
		return nil
	}
	return []register{next}
}

// apply is an operation that was answered; ok is false for a wrong answer.
func (r register) apply(in input, out output) (register, bool) {
	switch in.kind {
	case get:
		return r, out.ok == r.present && out.n == r.n
	case setIfAbsent:
		if out.ok == r.present {
			return r, false
		}
	case add:
		if next := r.effect(in); out.n != next.n {
			return r, false
		}
	}
	return r.effect(in), true
}

// effect is what an operation makes of the key.
func (r register) effect(in input) register {
	switch in.kind {
	case set:
		return register{true, in.n}
	case setIfAbsent:
		if r.present {
			return r
		}
		return register{true, in.n}
	case add:
		return register{true, r.n + in.n}
	case remove, expire, revoke:
		return none
	}
	return r
}

func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[int][]porcupine.Operation{}
			for _, op := range history {
				k := op.Input.(input).key
				byKey[k] = append(byKey[k], op)
			}
			var parts [][]porcupine.Operation
			for _, p := range byKey {
				parts = append(parts, p)
			}
			return parts
		},
		Init: func() []any { return []any{none} },
		Step: func(state, in, out any) []any {
			var next []any
			for _, r := range state.(register).step(in.(input), out.(output)) {
				next = append(next, r)
			}
			return next
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
	return m.ToModel()
}

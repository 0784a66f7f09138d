package codec

import (
	"math/big"
	"reflect"
	"sync"
)

// A guard checks a value for what its type does not determine: contents that the format would
// silently change, or could not decode again. It is nil for types all of whose values come
// back; most are of that kind, and cost nothing. depth is how deep the value may still nest.
type guard func(v reflect.Value, depth int) error

// guards has the guards of a format.
type guards struct {
	format
	maxDepth int
	lossy    bool // only values that could not be decoded again are refused

	typed, held sync.Map // of reflect.Type: to guard, and to held
}

// format has the parts in which the guards of a format differ.
type format interface {
	rules
	// special returns the guard of a type that encodes itself.
	special(g *guards, t reflect.Type) guard
	// decodes reports whether the decoder puts values of a type into an interface as they are.
	decodes(t reflect.Type) bool
	// heldKey reports whether a map with such keys comes back from an interface.
	heldKey(t reflect.Type) bool
	// number returns the guard of a number in an interface.
	number(t reflect.Type) guard
	// isNil reports whether a value that is not a nil pointer is encoded as nil.
	isNil(v reflect.Value) bool
	// keys returns the guard of a map for its keys.
	keys(t reflect.Type) guard
	// structField returns the guard of a field for its tag.
	structField(t reflect.Type, f reflect.StructField) guard
	// met is called for each type before one of its values is encoded.
	met(t reflect.Type)
}

// check returns an error for a value that would not come back equal.
func (g *guards) check(v any) error {
	if v == nil {
		return nil
	}
	look := g.of(reflect.TypeOf(v))
	if look == nil {
		return nil
	}
	return look(reflect.ValueOf(v), g.maxDepth)
}

func (g *guards) of(t reflect.Type) guard {
	if known, ok := g.typed.Load(t); ok {
		return known.(guard)
	}
	b := &building{g: g, done: map[reflect.Type]guard{}, around: map[reflect.Type]bool{}}
	look := b.of(t)
	g.typed.Store(t, look)
	return look
}

func (g *guards) tooDeep() error {
	return errorf("the value contains itself, or nests deeper than %d", g.maxDepth)
}

// building builds the guards of a type and its parts.
type building struct {
	g      *guards
	held   bool // the type is that of what an interface holds
	done   map[reflect.Type]guard
	around map[reflect.Type]bool // the types that are being built
}

func (b *building) of(t reflect.Type) guard {
	if look, ok := b.done[t]; ok {
		return look
	}
	if b.around[t] { // a type that contains itself: its guard exists by the time that a value is checked
		return func(v reflect.Value, depth int) error {
			if depth == 0 {
				return b.g.tooDeep()
			}
			return b.done[t](v, depth-1)
		}
	}
	b.around[t] = true
	look := b.build(t)
	delete(b.around, t)
	b.done[t] = look
	return look
}

func (b *building) build(t reflect.Type) guard {
	b.g.met(t)
	if is, _ := b.g.marshaler(t); is || b.g.lossy && t.Kind() != reflect.Interface && encodesItself(t, b.g.pairs()) {
		if b.g.lossy {
			return nil
		}
		return b.g.special(b.g, t)
	}
	for _, quick := range [...]reflect.Type{reflect.TypeFor[map[string]any](), reflect.TypeFor[[]any]()} {
		if t.Kind() == quick.Kind() && t.ConvertibleTo(quick) {
			return func(v reflect.Value, depth int) error { return b.g.hold(v.Convert(quick).Interface(), depth) }
		}
	}
	switch t.Kind() {
	case reflect.Interface:
		return b.g.inInterface
	case reflect.Pointer:
		return b.pointer(t)
	case reflect.Slice, reflect.Array:
		return b.list(t)
	case reflect.Map:
		return b.mapping(t)
	case reflect.Struct:
		return b.structure(t)
	}
	if b.held && !b.g.lossy {
		return b.g.number(t)
	}
	return nil
}

func (b *building) pointer(t reflect.Type) guard {
	elem := b.of(t.Elem())
	mayBeNil := !b.g.lossy && nilable(t.Elem())
	if elem == nil && !mayBeNil {
		return nil
	}
	return func(v reflect.Value, depth int) error {
		switch {
		case v.IsNil():
			return nil
		case depth == 0:
			return b.g.tooDeep()
		case mayBeNil && encodesNil(b.g.format, v.Elem()):
			return errorf("a pointer to a nil %v would come back as a nil pointer", t.Elem())
		case elem == nil:
			return nil
		}
		return elem(v.Elem(), depth-1)
	}
}

func nilable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return false
}

// encodesNil reports whether the target of a pointer is encoded as a nil pointer is.
func encodesNil(f format, v reflect.Value) bool {
	for v.Kind() == reflect.Interface && !v.IsNil() {
		v = v.Elem()
	}
	return (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil() || nilable(v.Type()) && f.isNil(v)
}

func (b *building) list(t reflect.Type) guard {
	elem := b.of(t.Elem())
	if elem == nil {
		return nil
	}
	return func(v reflect.Value, depth int) error {
		if depth == 0 {
			return b.g.tooDeep()
		}
		for i := range v.Len() {
			if err := elem(v.Index(i), depth-1); err != nil {
				return err
			}
		}
		return nil
	}
}

func (b *building) mapping(t reflect.Type) guard {
	var keys guard
	if !b.g.lossy {
		keys = b.g.keys(t)
	}
	elem := b.of(t.Elem())
	if elem == nil {
		return keys
	}
	return func(v reflect.Value, depth int) error {
		if depth == 0 {
			return b.g.tooDeep()
		}
		if keys != nil {
			if err := keys(v, depth); err != nil {
				return err
			}
		}
		for it := v.MapRange(); it.Next(); {
			if err := elem(it.Value(), depth-1); err != nil {
				return err
			}
		}
		return nil
	}
}

func (b *building) structure(t reflect.Type) guard {
	type part struct {
		at   int
		look guard
	}
	var parts []part
	for i := range t.NumField() {
		f := t.Field(i)
		embedded := f.Anonymous && f.Type.Kind() == reflect.Struct
		if f.Name == "_" || !f.IsExported() && !embedded || b.g.name(f) == "" {
			continue
		}
		if !b.g.lossy {
			if look := b.g.structField(t, f); look != nil {
				parts = append(parts, part{i, look})
			}
		}
		if look := b.of(f.Type); look != nil {
			parts = append(parts, part{i, look})
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return func(v reflect.Value, depth int) error {
		if depth == 0 {
			return b.g.tooDeep()
		}
		for _, p := range parts {
			if err := p.look(v.Field(p.at), depth-1); err != nil {
				return err
			}
		}
		return nil
	}
}

// embedsOne returns the type of the field that a struct which encodes itself has its methods
// from.
func embedsOne(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Struct && t.NumField() == 1 && t.Field(0).Anonymous && t.Field(0).IsExported() {
		return t.Field(0).Type, true
	}
	return nil, false
}

// special is the part of special that both formats share: a big.Float is text that is read with
// another precision, a pointer is followed, a struct may have the methods of its only field.
func special(g *guards, t reflect.Type) guard {
	if t == reflect.TypeFor[*big.Float]() {
		return wholeFloat
	}
	if t.Kind() == reflect.Pointer {
		elem := g.special(g, t.Elem())
		mayBeNil := nilable(t.Elem())
		if elem == nil && !mayBeNil {
			return nil
		}
		return func(v reflect.Value, depth int) error {
			switch {
			case v.IsNil():
				return nil
			case mayBeNil && encodesNil(g.format, v.Elem()):
				return errorf("a pointer to a nil %v would come back as a nil pointer", t.Elem())
			case elem == nil:
				return nil
			}
			return elem(v.Elem(), depth)
		}
	}
	if only, ok := embedsOne(t); ok {
		if look := g.special(g, only); look != nil {
			return func(v reflect.Value, depth int) error { return look(v.Field(0), depth) }
		}
	}
	return nil
}

func wholeFloat(v reflect.Value, _ int) error {
	x := v.Interface().(*big.Float)
	if x == nil {
		return nil
	}
	back := new(big.Float)
	if text, err := x.MarshalText(); err != nil || back.UnmarshalText(text) != nil || back.Cmp(x) != 0 {
		return errorf("a big.Float of this precision would come back as another number")
	}
	return nil
}

// isZeroer is the method that omitempty and omitzero call.
type isZeroer interface{ IsZero() bool }

var zeroer = reflect.TypeFor[isZeroer]()

// zeroPointer refuses a pointer to a value that is zero by its IsZero: left out, it would come
// back nil.
func zeroPointer(v reflect.Value, _ int) error {
	if !v.IsNil() && v.Interface().(isZeroer).IsZero() {
		return errorf("a pointer to a zero %v would be left out by the tag of its field, and come back nil", v.Type().Elem())
	}
	return nil
}

// distinct returns the guard of a map whose keys must have different texts.
func distinct(text func(k reflect.Value) (string, error)) guard {
	return func(v reflect.Value, _ int) error {
		seen := make(map[string]bool, v.Len())
		for it := v.MapRange(); it.Next(); {
			s, err := text(it.Key())
			if err != nil {
				return err
			}
			seen[s] = true
		}
		if len(seen) < v.Len() {
			return errorf("two keys of a %v are encoded alike, and one would be lost", v.Type())
		}
		return nil
	}
}

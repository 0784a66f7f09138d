package codec

import "reflect"

// The contents of an interface come back in the types that the format's decoder makes, whatever
// they were before. That preserves the contents of plain data: nil, booleans, numbers, strings,
// and slices, arrays and maps of these, all of types without names. Types with a name, or that
// mean more than their contents, such as a struct, a pointer or a type that encodes itself, are
// refused, except for the types that the decoder itself makes.

// held describes a type whose values are held by interfaces.
type held struct {
	err   error
	guard guard
}

// CheckHeld checks a value of a cache whose V is an interface: the codec can't see that from
// the type of the value.
func (c *jsonCodec) CheckHeld(v any) error {
	if c.guards.lossy {
		return nil
	}
	return c.guards.hold(v, c.guards.maxDepth)
}

func (c *msgpackCodec) CheckHeld(v any) error { return c.guards.hold(v, c.guards.maxDepth) }

func (c *compressed) CheckHeld(v any) error { return checkHeld(c.inner, v) }

func (c *encrypted) CheckHeld(v any) error { return checkHeld(c.inner, v) }

func checkHeld(c Codec, v any) error {
	if h, ok := c.(interface{ CheckHeld(any) error }); ok {
		return h.CheckHeld(v)
	}
	return nil
}

// inInterface is the guard of an interface.
func (g *guards) inInterface(v reflect.Value, depth int) error { return g.hold(v.Interface(), depth) }

// hold is the guard of the contents of an interface.
func (g *guards) hold(x any, depth int) error {
	if depth < 2 {
		return g.tooDeep()
	}
	switch x := x.(type) {
	case nil, string, bool, float64:
		return nil
	case map[string]any:
		for _, e := range x {
			if err := g.hold(e, depth-2); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for _, e := range x {
			if err := g.hold(e, depth-2); err != nil {
				return err
			}
		}
		return nil
	}
	switch h := g.heldOf(reflect.TypeOf(x)); {
	case h.err != nil:
		return h.err
	case h.guard != nil:
		return h.guard(reflect.ValueOf(x), depth-1)
	}
	return nil
}

// heldOf checks a type when an interface is found to hold a value of it.
func (g *guards) heldOf(t reflect.Type) held {
	if known, ok := g.held.Load(t); ok {
		return known.(held)
	}
	var h held
	if !g.lossy && !g.plain(t) {
		h.err = errorf("a %v in an interface would come back as something else: give what holds it the type instead of the interface, store plain data (see codec.JSON, codec.Msgpack), or accept the change with codec.Lossy()", t)
	} else {
		b := &building{g: g, held: true, done: map[reflect.Type]guard{}, around: map[reflect.Type]bool{}}
		h.guard = b.of(t)
	}
	g.held.Store(t, h)
	return h
}

// plain reports whether the contents of all values of t come back from an interface, apart from
// what guards check.
func (g *guards) plain(t reflect.Type) bool {
	if t.PkgPath() != "" {
		return g.decodes(t)
	}
	switch t.Kind() {
	case reflect.Interface:
		return t.NumMethod() == 0
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return g.decodes(t)
		}
		return g.plain(t.Elem())
	case reflect.Array:
		return g.plain(t.Elem())
	case reflect.Map:
		return g.heldKey(t.Key()) && g.plain(t.Elem())
	case reflect.Pointer, reflect.Struct:
		return false
	}
	return g.kind(t.Kind())
}

package codec

import (
	"reflect"
	"slices"
)

// rules are the rules of a format for types.
type rules interface {
	// pairs are the interfaces by which values encode and decode themselves, in the order in
	// which the format looks for them.
	pairs() [][2]reflect.Type
	// marshaler reports whether values of t encode themselves. The error says why
	// they then can't be decoded, or not be encoded.
	marshaler(t reflect.Type) (bool, error)
	// name returns the name of a field in the format, "" for one that is left out.
	name(f reflect.StructField) string
	// names returns all the names that a field is found by.
	names(f reflect.StructField, inlined bool) []string
	// field returns an error if the tag of a field of a struct keeps its type from coming back.
	field(in reflect.Type, f reflect.StructField) error
	// key returns an error if t can't be a map's key.
	key(t reflect.Type) error
	// inlines reports whether the fields of an embedded struct take part in the
	// names of the struct around it.
	inlines(f reflect.StructField) bool
	// inline returns an error if an embedded field that is inlined does not come back.
	inline(f reflect.StructField) error
	// list returns an error if a pointer, slice or array can't be encoded.
	list(t reflect.Type) error
	kind(k reflect.Kind) bool
}

// typeWalk looks for parts of a type that a format loses silently.
type typeWalk struct {
	rules
	seen    map[reflect.Type]bool
	inlined map[reflect.Type]bool // the structs whose fields are being checked
}

func newTypeWalk(r rules) *typeWalk {
	return &typeWalk{rules: r, seen: map[reflect.Type]bool{}, inlined: map[reflect.Type]bool{}}
}

const remedy = "give it a tag or a marshaler, or accept the loss with codec.Lossy()"

func (w *typeWalk) check(t reflect.Type) error {
	if t == nil {
		return errorf("a value needs a type")
	}
	return w.visit(t, t.String())
}

func (w *typeWalk) visit(t reflect.Type, path string) error {
	if w.seen[t] {
		return nil
	}
	w.seen[t] = true
	if t.Kind() == reflect.Interface && t.NumMethod() > 0 {
		return errorf("%s is the interface %v, which can't be decoded: %s", path, t, remedy)
	}
	is, err := w.marshaler(t)
	if err != nil {
		return errorf("%s: %w", path, err)
	}
	if is {
		return w.promoted(t, path)
	}
	if !w.kind(t.Kind()) {
		return errorf("%s is a %v, which can't be encoded: %s", path, t.Kind(), remedy)
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		if err := w.list(t); err != nil {
			return errorf("%s: %w", path, err)
		}
		return w.visit(t.Elem(), path)
	case reflect.Map:
		if err := w.key(t.Key()); err != nil {
			return errorf("%s: %w", path, err)
		}
		if err := w.promoted(t.Key(), path+" (the key)"); err != nil {
			return err
		}
		return w.visit(t.Elem(), path)
	case reflect.Struct:
		return w.fields(t, path, map[string]string{})
	}
	return nil
}

// fields visits the fields of a struct; names are those that the struct around an
// embedded one has so far, with their paths.
func (w *typeWalk) fields(t reflect.Type, path string, names map[string]string) error {
	if w.inlined[t] {
		return errorf("%s embeds itself: give the embedded field a name", path)
	}
	w.inlined[t] = true
	defer delete(w.inlined, t)
	for i := range t.NumField() {
		f := t.Field(i)
		at := path + "." + f.Name
		if f.Name == "_" || f.Name == "_msgpack" && f.Type.Size() == 0 {
			continue
		}
		if f.Anonymous && !f.IsExported() && f.Type.Kind() == reflect.Pointer {
			return errorf("%s is an embedded pointer to an unexported struct, which can't be decoded: %s", at, remedy)
		}
		if !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct) {
			return errorf("%s is not exported and would be lost: %s", at, remedy)
		}
		name := w.name(f)
		if name == "" {
			return errorf("%s is left out by its tag and would be lost: %s", at, remedy)
		}
		inlined := w.inlines(f)
		for _, name := range w.names(f, inlined) {
			if other, twice := names[name]; twice {
				return errorf("%s and %s have the same name %q, and one would be lost: %s", other, at, name, remedy)
			}
			names[name] = at
		}
		if inlined {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if err := w.inline(f); err != nil {
				return errorf("%s: %w", at, err)
			}
			if err := w.fields(inner, at, names); err != nil {
				return err
			}
			continue
		}
		if err := w.field(t, f); err != nil {
			return errorf("%s: %w", at, err)
		}
		if err := w.visit(f.Type, at); err != nil {
			return err
		}
	}
	return nil
}

// promoted refuses a struct whose methods may be those of an embedded field, which then
// encodes that field alone. A method of the struct's own would be fine, and looks the same.
func (w *typeWalk) promoted(t reflect.Type, path string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var embedded []reflect.StructField
	fields := 0
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name != "_" {
			fields++
		}
		if f.Anonymous && (f.Type.Kind() == reflect.Interface && f.Type.NumMethod() > 0 || touchesItself(f.Type, w.pairs())) {
			embedded = append(embedded, f)
		}
	}
	if fields < 2 || len(embedded) == 0 {
		return nil
	}
	f := embedded[0].Name
	return errorf("%s may be encoded as the embedded %s alone, whose methods it has, and the other fields would be lost: give %s a name", path, f, f)
}

// encodesItself reports whether values of t have a method to encode them.
func encodesItself(t reflect.Type, list [][2]reflect.Type) bool {
	return slices.ContainsFunc(list, func(p [2]reflect.Type) bool { return t.Implements(p[0]) })
}

// touchesItself reports whether t or a pointer to it has any of the methods.
func touchesItself(t reflect.Type, list [][2]reflect.Type) bool {
	has := func(iface reflect.Type) bool { return t.Implements(iface) || reflect.PointerTo(t).Implements(iface) }
	return slices.ContainsFunc(list, func(p [2]reflect.Type) bool { return has(p[0]) || has(p[1]) })
}

// paired checks a type by interfaces for encoding and decoding, of which a format uses the
// first ones that a type has. Values are encoded as they are, not by address: a method of the
// pointer may not be found.
func paired(t reflect.Type, list [][2]reflect.Type) (is bool, err error) {
	byValue := t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface
	first := func(is func(p [2]reflect.Type) bool) int {
		i := slices.IndexFunc(list, is)
		if i < 0 {
			return len(list)
		}
		return i
	}
	enc := first(func(p [2]reflect.Type) bool { return t.Implements(p[0]) })
	dec := first(func(p [2]reflect.Type) bool { return t.Implements(p[1]) || reflect.PointerTo(t).Implements(p[1]) })
	ptr := first(func(p [2]reflect.Type) bool { return byValue && reflect.PointerTo(t).Implements(p[0]) })
	none := len(list)
	switch {
	case ptr < enc:
		return false, errorf("%s of %v has a pointer receiver, and values are encoded by value: use a *%v, or %s", method(list[ptr][0]), t, t, remedy)
	case enc == none && (dec == none || t.Kind() == reflect.Pointer):
		return false, nil // the target of a pointer is checked by itself
	case enc == none:
		return false, errorf("%v has %s and lacks %s: %s", t, method(list[dec][1]), method(list[dec][0]), remedy)
	case dec == none:
		return false, errorf("%v has %s and lacks %s: %s", t, method(list[enc][0]), method(list[enc][1]), remedy)
	case enc != dec:
		return false, errorf("%v is encoded by %s and decoded by %s: %s", t, method(list[enc][0]), method(list[dec][1]), remedy)
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Interface && t.Size() > 0 && t.Implements(list[dec][1]) {
		return false, errorf("%s of %v has a value receiver, or is that of an embedded pointer: what it decodes would be lost: %s", method(list[dec][1]), t, remedy)
	}
	return true, nil
}

func method(iface reflect.Type) string { return iface.Method(0).Name }

package invalidate

import "github.com/delqhi/cache/internal/keys"

// Key encodes a key as a cache does: one field as a key of its type, several as a
// struct key with these fields. Fields are strings, integers, bools, text
// marshalers and structs of those. A field of another type, or whose marshaler
// fails, is a mistake of the program, and Key panics, as regexp.MustCompile does.
func Key(fields ...any) string {
	key, err := keys.Join(fields...)
	if err != nil {
		panic("invalidate.Key: " + err.Error())
	}
	return key
}

// QuotePattern escapes s so that, as a part of a pattern, it matches itself only.
//
// Fields of struct keys are escaped inside of the key, so that a pattern for all
// keys that begin with a field is made of a key, and not of the field:
//
//	invalidate.QuotePattern(invalidate.Key(tenant, "")) + "*" // tenant, ':', anything
func QuotePattern(s string) string { return keys.QuotePattern(s) }

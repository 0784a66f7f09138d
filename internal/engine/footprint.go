package engine

import (
	"reflect"

	"github.com/delqhi/cache/internal/usercode"
)

// entryOverhead is the memory in bytes that an entry of the local tier takes beside its key and
// value.
const entryOverhead = 150

// entrySize returns how much of LocalBytes an entry takes: what the source says, or else an
// estimate. record is the size of the record, 0 if there is none.
func (c *Cache) entrySize(key Key, ans *result, record int) int64 {
	if weigh := c.src.Weigh; weigh != nil && ans.absent == nil {
		val := ans.val // apart, so that the function does not take ans to the heap
		var n int64
		err := usercode.Contained(func() error {
			n = weigh(key, val)
			return nil
		})
		if err == nil {
			return max(n, 0)
		}
		c.reports.NotWeighed(err)
	}
	if record > 0 {
		return int64(record) + entryOverhead
	}
	return footprint(c.types.Elem(ans.val)) + entryOverhead
}

// footprint estimates the memory that a value takes, in bytes, if it was not
// encoded. It follows pointers to a small depth and samples only the first elements of a
// list: it is meant to be right to a factor of about two for ordinary data, and cheap.
func footprint(v any) int64 {
	if v == nil {
		return 0
	}
	rv := reflect.ValueOf(v)
	return int64(rv.Type().Size()) + indirectSize(rv, 6)
}

// sampled is how many elements of a list or map are examined.
const sampled = 16

// indirectSize estimates the size of the memory that v refers to.
func indirectSize(v reflect.Value, depth int) int64 {
	if depth == 0 {
		return 0
	}
	switch v.Kind() {
	case reflect.String:
		return int64(v.Len())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 0
		}
		e := v.Elem()
		return int64(e.Type().Size()) + indirectSize(e, depth-1)
	case reflect.Slice:
		return int64(v.Cap())*int64(v.Type().Elem().Size()) + elements(v, depth)
	case reflect.Array:
		return elements(v, depth)
	case reflect.Map:
		n, sum := 0, int64(0)
		for it := v.MapRange(); n < sampled && it.Next(); n++ {
			sum += indirectSize(it.Key(), depth-1) + indirectSize(it.Value(), depth-1)
		}
		if n == 0 {
			return 0
		}
		each := int64(v.Type().Key().Size()+v.Type().Elem().Size()) + 8
		return int64(v.Len()) * (each + sum/int64(n))
	case reflect.Struct:
		sum := int64(0)
		for i := range v.NumField() {
			sum += indirectSize(v.Field(i), depth)
		}
		return sum
	}
	return 0
}

func elements(v reflect.Value, depth int) int64 {
	switch v.Type().Elem().Kind() {
	case reflect.String, reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
	default:
		return 0
	}
	n := min(v.Len(), sampled)
	sum := int64(0)
	for i := range n {
		sum += indirectSize(v.Index(i), depth-1)
	}
	if n == 0 {
		return 0
	}
	return sum * int64(v.Len()) / int64(n)
}

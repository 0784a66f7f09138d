package proto_test

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/codec"
	cacheproto "github.com/delqhi/cache/codec/proto"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestMessagesComeBackEqual(t *testing.T) {
	tree, err := structpb.NewStruct(map[string]any{"name": "Lamp", "stock": 3, "tags": []any{"red", nil, true}, "deep": map[string]any{"a": map[string]any{}}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, tree, new(structpb.Struct))
	same(t, wrapperspb.Bytes([]byte{0, 255}), wrapperspb.Bytes(nil))
	same(t, wrapperspb.String("größe"))
	same(t, durationpb.New(time.Hour), &durationpb.Duration{})
}

func same[M proto.Message](t *testing.T, values ...M) {
	t.Helper()
	for _, c := range []codec.Codec{cacheproto.Codec(), codec.Compressed(cacheproto.Codec(), codec.Threshold(0)), codec.EncryptedAESGCM(cacheproto.Codec(), make([]byte, 32))} {
		for _, v := range values {
			typ := reflect.TypeOf(v)
			if err := c.(codec.TypeChecker).CheckType(typ); err != nil {
				t.Fatal(err)
			}
			data, err := c.Marshal([]byte("before"), v)
			if err != nil || !bytes.HasPrefix(data, []byte("before")) {
				t.Fatalf("%q, %v", data, err)
			}
			data = data[len("before"):]
			back := reflect.New(typ)
			if err := c.Unmarshal(data, back.Interface()); err != nil {
				t.Fatal(err)
			}
			clear(data)
			if got := back.Elem().Interface().(proto.Message); !proto.Equal(got, v) {
				t.Errorf("%s: %v came back as %v", c.Name(), v, got)
			}
		}
	}
}

// codectest compares by reflect.DeepEqual, which messages do not: they remember their encoded sizes.
func TestTheCodecServesManyGoroutines(t *testing.T) {
	c := cacheproto.Codec()
	shared := wrapperspb.String("shared") // as a value of the local tier is
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 200 {
				own := wrapperspb.String(fmt.Sprint(g, n))
				for _, m := range []*wrapperspb.StringValue{own, shared} {
					data, err := c.Marshal(nil, m)
					var back *wrapperspb.StringValue
					if err == nil {
						err = c.Unmarshal(data, &back)
					}
					if err != nil || back.GetValue() != m.GetValue() {
						t.Errorf("%v came back as %v, %v", m, back, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestUnknownFieldsAreKept(t *testing.T) {
	c := cacheproto.Codec()
	newer, err := c.Marshal(nil, wrapperspb.String("known"))
	if err != nil {
		t.Fatal(err)
	}
	newer = protowire.AppendString(protowire.AppendTag(newer, 99, protowire.BytesType), "of a newer schema")
	var v *wrapperspb.StringValue
	if err := c.Unmarshal(newer, &v); err != nil || v.GetValue() != "known" {
		t.Fatal(v, err)
	}
	if again, err := c.Marshal(nil, v); err != nil || !bytes.Equal(again, newer) {
		t.Errorf("%q became %q, %v", newer, again, err)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	c := cacheproto.Codec()
	var none *wrapperspb.StringValue
	for name, v := range map[string]any{
		"nil": nil, "a nil message": none, "a string": "s", "text that is not UTF-8": wrapperspb.String("\xff"),
		"a required field": &descriptorpb.UninterpretedOption_NamePart{},
	} {
		if out, err := c.Marshal([]byte("before"), v); err == nil || string(out) != "before" {
			t.Errorf("%s: encoded as %q", name, out)
		}
	}
	good, err := c.Marshal(nil, wrapperspb.String("value"))
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]any{
		"nil": nil, "the message": new(wrapperspb.StringValue), "a string": new(string), "an interface": new(proto.Message), "a nil pointer": (**wrapperspb.StringValue)(nil),
	} {
		if err := c.Unmarshal(good, target); err == nil {
			t.Errorf("%s: decoded into", name)
		}
	}
	var v *wrapperspb.StringValue
	for name, data := range map[string][]byte{"cut off": good[:len(good)-1], "a wrong type": {0x0b}, "text that is not UTF-8": {0x0a, 1, 0xff}} {
		if err := c.Unmarshal(data, &v); err == nil || v != nil {
			t.Errorf("%s: %v", name, v)
		}
	}
	var part *descriptorpb.UninterpretedOption_NamePart
	if err := c.Unmarshal(nil, &part); err == nil {
		t.Error("a record without a required field is accepted")
	}
	for _, typ := range []reflect.Type{nil, reflect.TypeFor[string](), reflect.TypeFor[wrapperspb.StringValue](), reflect.TypeFor[proto.Message](), reflect.TypeFor[**wrapperspb.StringValue]()} {
		if err := c.(codec.TypeChecker).CheckType(typ); err == nil {
			t.Errorf("%v is accepted", typ)
		}
	}
}

// Corrupt records are misses, and messages go through both tiers.
func TestACacheOfMessages(t *testing.T) {
	fleet := cachetest.New(t)
	rdb := fleet.Client()
	c, err := cache.New[string, *wrapperspb.StringValue](rdb, "messages", cache.WithCodec(cacheproto.Codec()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Set(t.Context(), "k", wrapperspb.String("v")); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(t.Context(), "k"); err != nil || v.GetValue() != "v" {
		t.Error(v, err)
	}
	if err := c.Set(t.Context(), "nil", nil); err == nil {
		t.Error("nil is stored")
	}
	if _, err := cache.New[string, wrapperspb.StringValue](rdb, "structs", cache.WithCodec(cacheproto.Codec())); err == nil {
		t.Error("a cache of messages that are copied is made")
	}
}

func FuzzUnmarshal(f *testing.F) {
	c := cacheproto.Codec()
	for _, m := range []proto.Message{wrapperspb.String("s"), durationpb.New(time.Second), &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewNumberValue(1)}}} {
		data, err := c.Marshal(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		var s *structpb.Struct
		if err := c.Unmarshal(data, &s); err == nil {
			again, err := c.Marshal(nil, s)
			if err != nil {
				t.Fatalf("what was read can't be written: %v", err)
			}
			var back *structpb.Struct
			if err := c.Unmarshal(again, &back); err != nil || !proto.Equal(s, back) && !bytes.Contains(again, []byte("\xf8\x7f")) { // a NaN equals nothing
				t.Fatalf("%v came back as %v, %v", s, back, err)
			}
		}
		var d *descriptorpb.FileDescriptorProto
		_ = c.Unmarshal(data, &d)
		if !bytes.Equal(before, data) {
			t.Fatal("the input is modified")
		}
	})
}

func ExampleCodec() {
	c := cacheproto.Codec() // cache.New[int64, *userpb.User](rdb, "users", cache.WithCodec(c))
	record, _ := c.Marshal(nil, durationpb.New(90*time.Second))
	var d *durationpb.Duration
	err := c.Unmarshal(record, &d)
	fmt.Println(d.AsDuration(), err)
	// Output: 1m30s <nil>
}

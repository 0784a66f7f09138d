package codectest_test

import (
	"fmt"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/codec/codectest"
)

func ExampleCheck() {
	type user struct {
		ID   int
		Name string
	}
	fmt.Println(len(codectest.Check(codec.JSON(), user{}, user{42, "Ada"})), "failures")

	// This one forgets that the buffer may have something in it already.
	broken := codec.Func("broken",
		func(_ []byte, v any) ([]byte, error) { return []byte(v.(string)), nil },
		func(data []byte, v any) error { *v.(*string) = string(data); return nil })
	fmt.Println(len(codectest.Check(broken, "Ada")) > 0)
	// Output:
	// 0 failures
	// true
}

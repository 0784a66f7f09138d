package codec

import "reflect"

// Func makes a codec of two functions; see [Codec] for what they must do. A name
// that is empty or a function that is nil is an error from cache.New.
func Func(name string, marshal func(dst []byte, v any) ([]byte, error), unmarshal func(data []byte, v any) error) Codec {
	return &funcCodec{name, marshal, unmarshal}
}

type funcCodec struct {
	name      string
	marshal   func(dst []byte, v any) ([]byte, error)
	unmarshal func(data []byte, v any) error
}

func (c *funcCodec) Name() string { return c.name }

func (c *funcCodec) Marshal(dst []byte, v any) ([]byte, error) {
	if err := c.CheckType(nil); err != nil {
		return dst, err
	}
	return c.marshal(dst, v)
}

func (c *funcCodec) Unmarshal(data []byte, v any) error {
	if err := c.CheckType(nil); err != nil {
		return err
	}
	return c.unmarshal(data, v)
}

func (c *funcCodec) CheckType(reflect.Type) error {
	switch {
	case c.name == "":
		return errorf("Func needs a name: it tells its records from those of other codecs")
	case c.marshal == nil || c.unmarshal == nil:
		return errorf("Func %q needs both functions", c.name)
	}
	return nil
}

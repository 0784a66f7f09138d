package cache

import (
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
)

func init() {
	hook.Store = func(open func() store.Store) any {
		return option(func(c *config) { c.open = open })
	}
	hook.Of = func(c any) hook.Parts { return c.(interface{ parts() hook.Parts }).parts() }
	hook.DefaultTimeout = defaultTimeout
}

func (c *Cache[K, V]) parts() hook.Parts {
	p := c.engine.Parts()
	if c.local != nil {
		p.Local = c.local
	}
	return p
}

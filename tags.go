package cache

import (
	"fmt"

	"github.com/delqhi/cache/internal/usercode"
)

// tagsOf collects the tags of a value: those of the load, the call and the source, each
// once.
func (c *Cache[K, V]) tagsOf(key K, val V, o *callOptions, w loadDirectives) ([]string, error) {
	var more []string
	if c.src.Tags != nil {
		if err := usercode.Do(func() { more = c.src.Tags(key, val) }); err != nil {
			return nil, err
		}
	}
	if len(o.tags)+len(w.tags)+len(more) == 0 {
		return nil, nil
	}
	seen := make(map[string]bool, len(o.tags)+len(w.tags)+len(more))
	tags := make([]string, 0, len(o.tags)+len(w.tags)+len(more))
	for _, list := range [][]string{o.tags, w.tags, more} {
		for _, t := range list {
			if t == "" {
				return nil, errEmptyTag
			}
			if !seen[t] {
				seen[t] = true
				tags = append(tags, t)
			}
		}
	}
	return tags, nil
}

var errEmptyTag = fmt.Errorf("%w: a tag is empty", ErrInvalidOption)

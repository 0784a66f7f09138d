package engine

import (
	"fmt"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/usercode"
)

// tagsOf collects the tags of a value: those of the load, the call and the source, each
// once.
func (c *Cache) tagsOf(key Key, val Value, o *Options, w *loadDirectives) ([]string, error) {
	var more []string
	if c.src.Tags != nil {
		if err := usercode.Do(func() { more = c.src.Tags(key, val) }); err != nil {
			return nil, err
		}
	}
	if len(o.Tags)+len(w.tags)+len(more) == 0 {
		return nil, nil
	}
	seen := make(map[string]bool, len(o.Tags)+len(w.tags)+len(more))
	tags := make([]string, 0, len(o.Tags)+len(w.tags)+len(more))
	for _, list := range [][]string{o.Tags, w.tags, more} {
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

var errEmptyTag = fmt.Errorf("%w: a tag is empty", errs.ErrInvalidOption)

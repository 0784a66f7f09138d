package flight

import (
	"context"
	"testing"
	"testing/synctest"
)

// Who joins a call has no memory made for a work of its own. If a call begins while that is made,
// it is joined all the same; and a group that was closed meanwhile refuses.
func TestMemoryIsMadeForAWorkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		hold := make(chan struct{})
		lead := leader[string](func(_ context.Context, mine []*call) {
			<-hold
			g.Resolve(mine[0], "v", nil)
		})
		k := Request[string, int]{Key: "k"}
		made := 0
		begin := func(bool) (*Single[string, int, string], Leader[string, int, string]) {
			made++
			return lead.begin(false)
		}
		results := make(chan Result[string], 3)
		for range 3 {
			go func() { results <- g.DoSingle(t.Context(), &k, begin) }()
			synctest.Wait()
		}
		if made != 1 {
			t.Errorf("memory was made for %d works", made)
		}
		if r := g.DoSingle(t.Context(), &Request[string, int]{Key: "late"}, func(bool) (*Single[string, int, string], Leader[string, int, string]) {
			go g.Do(t.Context(), req("late"), func(_ context.Context, mine []*call) {
				<-hold
				g.Resolve(mine[0], "other", nil)
			})
			synctest.Wait()
			close(hold)
			return lead.begin(false)
		}); r.Val != "other" || !r.Shared || r.Err != nil {
			t.Errorf("a call that began meanwhile: %+v", r)
		}
		for range 3 {
			if r := <-results; r.Val != "v" || r.Err != nil {
				t.Errorf("%+v", r)
			}
		}
		if r := g.DoSingle(t.Context(), &k, func(bool) (*Single[string, int, string], Leader[string, int, string]) {
			g.Close(errClosed)
			return lead.begin(false)
		}); r.Err != errClosed || !r.Refused {
			t.Errorf("closed meanwhile: %+v", r)
		}
		if r := g.DoSingle(t.Context(), &k, begin); r.Err != errClosed || !r.Refused || made != 1 {
			t.Errorf("closed before: %+v", r)
		}
	})
}

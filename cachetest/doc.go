// Package cachetest is for tests of code that uses a cache: an embedded Redis, several
// processes in one test, outages on demand, and assertions.
//
//	func TestUsersAreCoherent(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			env := cachetest.New(t)
//			a, b := env.Process(), env.Process()
//			src := cachetest.NewSource(map[int64]string{1: "Ada"})
//			inA, inB := openUsers(t, a.Client(), src), openUsers(t, b.Client(), src)
//
//			inA.Get(t.Context(), 1)
//			inB.Get(t.Context(), 1) // both have it in their local tiers now
//			inA.Set(t.Context(), 1, "Grace")
//			synctest.Wait() // the notification has arrived
//			cachetest.WantHit(t, inB, 1, "Grace")
//		})
//	}
//
// Nothing here opens a port, starts a program or needs one to be installed: clients are
// connected to the server within the process. The server is miniredis; what it does not
// have is in the documentation of [New].
//
// # Time
//
// In a bubble of testing/synctest everything is on the clock of the bubble: the server, its
// clients and the caches. A day passes in a moment, [Env.Advance] lets it pass, and
// synctest.Wait waits until everything that is under way has been done, such as
// notifications that are to arrive. Call New within the bubble, and close the caches before
// its end. The clock of a bubble costs what happens meanwhile: a cache with a local tier
// sends two heartbeats a second.
//
// Outside of a bubble everything works as well but Advance: time is real then, and what
// happens in another process has to be polled for.
//
// # Assertions
//
// [WantHit], [WantStale], [WantMiss], [WantAbsent] and [WantUnavailable] look at a key and
// change nothing: they load nothing, fill no tier and are not counted. They are the five
// states that a key can be in. [Loads] is about the loads that a cache has made, and
// [Source.WantLoads] about those that a source was asked for, by all processes together.
// A failed assertion reports an error and lets the test continue.
package cachetest

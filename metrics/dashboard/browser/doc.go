// Package browser holds no code but tests: it looks at the dashboard in a real
// Chromium. It is a module of its own, so that what drives the browser does not
// become a dependency of everybody.
//
// Without a Chromium in the path the tests skip, and say so. With
// CACHE_TEST_REQUIRE_CHROMIUM=1 they fail instead.
package browser

// Package browser holds no code but tests: it looks at the dashboard in a real Chromium. It is
// a module of its own, so that users of the library do not depend on what drives the browser.
//
// Without a Chromium in the path the tests are skipped. With
// CACHE_TEST_REQUIRE_CHROMIUM=1 they fail instead.
package browser

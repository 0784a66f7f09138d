package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/logonce"
	"github.com/delqhi/cache/internal/writebehind"
)

// A source that refuses everything fills no log, and no dead letter goes unsaid for ever.
func TestDeadLettersAreLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := testCache[string](t, nil, func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		bury := func() { c.reportWrites(writebehind.Report{Dead: 2, Err: errFlaky}) }
		for range 5 {
			bury()
		}
		time.Sleep(logonce.Every)
		bury()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], "cache=test writes=2 ") || !strings.Contains(lines[1], " writes=10 ") {
			t.Errorf("the log:\n%s", log.String())
		}
		if n := c.Totals().Buried; n != 12 {
			t.Errorf("%d dead letters are counted", n)
		}
	})
}

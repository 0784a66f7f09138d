package cache

import (
	"log/slog"
)

var quietLog = WithLogger(slog.New(slog.DiscardHandler))

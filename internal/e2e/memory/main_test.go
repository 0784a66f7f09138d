package memory_test

import (
	"testing"

	"github.com/delqhi/cache/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }

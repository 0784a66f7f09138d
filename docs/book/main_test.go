package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRunServesUntilItIsEnded(t *testing.T) {
	// A port that is free now. If it is taken meanwhile, the next one is tried.
	for attempt := 0; ; attempt++ {
		listener, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := listener.Addr().String()
		listener.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		var out bytes.Buffer
		go func() { ended <- run(ctx, &out, "../..", addr) }()
		if !answers(t, "http://"+addr+"/", ended) {
			cancel()
			if attempt < 10 {
				continue
			}
			t.Fatal("it does not serve")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if !strings.Contains(out.String(), "pages at http://") {
			t.Errorf("it says %q", &out)
		}
		return
	}
}

// answers waits for the page. It is false if the program has ended before.
func answers(t *testing.T, url string, ended <-chan error) bool {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-ended:
			return false
		default:
		}
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		return strings.Contains(string(body), "<title>The book of the cache</title>")
	}
	return false
}

func TestRunNamesWhatIsWrong(t *testing.T) {
	if err := run(t.Context(), io.Discard, t.TempDir(), "localhost:0"); err == nil || !strings.Contains(err.Error(), "README.md") {
		t.Errorf("without pages: %v", err)
	}
	if err := run(t.Context(), io.Discard, "../..", "localhost:-1"); err == nil {
		t.Error("without an address there is no error")
	}
}

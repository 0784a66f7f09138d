package redisstore_test

import (
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// A user who may not ask for the number of subscriptions is not asked to again and again: each
// refusal is an entry in the server's log.
func TestAUserWhoMayNotCountIsNotAskedToAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.ACL("app on >secret ~* &* +@all -pubsub"))
	o := server.Options()
	o.Username, o.Password = "app", "secret"
	client := redis.NewClient(o)
	defer client.Close()
	for range 3 {
		h := listen(t, newReal(t, client), steady("news"))
		h.neverDirect(t)
		h.stop()
		<-h.done
	}
	log, err := server.Client(t).ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	var denied int64
	for _, e := range log {
		denied += e.Count
	}
	if denied > 1 {
		t.Errorf("%d refusals: %+v", denied, log)
	}
}

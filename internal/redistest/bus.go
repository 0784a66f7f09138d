package redistest

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// busChannel is where the harness publishes to see that nodes carry messages.
const busChannel = "redistest:bus"

// carries waits until what is published at each node arrives at each other one. Nodes that know each
// other may not have connected yet, and drop what they should carry, without a sign.
func (c *Cluster) carries(ctx context.Context) error {
	b := &bus{missing: map[[2]int]bool{}}
	defer b.close()
	for i, s := range c.Nodes {
		if err := b.join(ctx, s); err != nil {
			return s.withLog(fmt.Errorf("redistest: subscribe to a node: %w", err))
		}
		for j := range c.Nodes {
			if i != j {
				b.missing[[2]int{i, j}] = true
			}
		}
	}
	return eventually(ctx, nil, "nodes that carry messages", b.round)
}

// bus is a client and a subscription of each node of a cluster.
type bus struct {
	nodes   []*redis.Client
	subs    []*redis.PubSub
	rounds  int
	missing map[[2]int]bool // pairs of nodes: nothing has arrived from the first at the second
}

func (b *bus) join(ctx context.Context, s *Server) error {
	rdb := redis.NewClient(s.Options())
	sub := rdb.Subscribe(ctx, busChannel)
	b.nodes, b.subs = append(b.nodes, rdb), append(b.subs, sub)
	_, err := sub.Receive(ctx)
	return err
}

func (b *bus) close() {
	for i := range b.nodes {
		_ = b.subs[i].Close()
		_ = b.nodes[i].Close()
	}
}

// round publishes at each node, and takes what has arrived at each before its own message of this
// round. It fails as long as anything is missing.
func (b *bus) round(ctx context.Context) error {
	b.rounds++
	message := func(node int) string { return fmt.Sprint(b.rounds, " ", node) }
	for i, rdb := range b.nodes {
		if err := rdb.Publish(ctx, busChannel, message(i)).Err(); err != nil {
			return err
		}
	}
	for i, sub := range b.subs {
		for {
			m, err := sub.ReceiveMessage(ctx)
			if err != nil {
				return err
			}
			if m.Payload == message(i) {
				break
			}
			_, from, _ := strings.Cut(m.Payload, " ")
			if node, err := strconv.Atoi(from); err == nil {
				delete(b.missing, [2]int{node, i})
			}
		}
	}
	if len(b.missing) > 0 {
		return fmt.Errorf("nothing arrived from the first at the second: %v", b.missing)
	}
	return nil
}

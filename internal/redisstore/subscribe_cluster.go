package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// errMoved: the session listens to masters that are no longer those of the cluster, or of the
// ring, or no longer have the slots.
var errMoved = errors.New("redisstore: the masters have changed")

// member is a master of a cluster, with the layout by which a session was planned. A heartbeat is sent
// only after that master has confirmed that the layout is still the same. The
// client's own is not enough, since it is as old as the client's last request for it:
//
//  1. a replica takes the place of its master, which becomes its replica, or a node is added and
//     takes over slots
//  2. a write is acknowledged by the new master
//  3. a heartbeat through the old one comes back, and is taken for the proof that the messages of
//     all earlier writes have arrived
//  4. the write arrives at the old one as its replica, and is reported only now, or never
//
// A change of the layout mostly changes the number of masters, or gives the cluster a new epoch: the
// slots need to be read only then, and now and then, since a node that has the latest epoch takes over
// slots without a new one. What a node that has taken over slots publishes meanwhile reaches those that
// have subscribed to its channel there.
type member struct {
	id     string // "": older servers do not report ids
	layout layout

	mu      sync.Mutex
	state   string // cluster size and epoch at which the layout was confirmed; "" before the first
	unasked bool   // scripts do not ask for the state
}

// has reports whether the node has the slot of a channel.
func (m *member) has(channel string) bool { return m.owns(store.SlotOf(channel)) }

func (m *member) owns(slot int) bool {
	owner := m.layout.owner(slot)
	return owner == m.id && (owner != "" || len(m.layout.nodesOf(store.SlotRange{Next: store.Slots})) == 1)
}

// memberPulseScript is pulseScript on a node of a cluster, if its cluster size and epoch are still
// ARGV[3]. Otherwise it publishes nothing: the answer is 0, or -1 if the node does not tell them. It
// is one round trip, and costs the node less than to be asked first.
var memberPulseScript = newScript(`#!lua flags=allow-oom
local info = redis.pcall('CLUSTER', 'INFO')
if type(info) ~= 'string' then return -1 end
local function field(name) return string.match(info, '\n' .. name .. ':(%w+)') or '' end
if string.match(info, 'cluster_state:fail') or field('cluster_size') .. ' ' .. field('cluster_current_epoch') ~= ARGV[3] then return 0 end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
`)

// errUnconfirmed: the node has to be asked.
var errUnconfirmed = errors.New("redisstore: the node does not confirm the list of masters by itself")

// memberPulse publishes a heartbeat through a master that confirms that the list of masters is
// what it was when it was last asked.
func (s *Redis) memberPulse(ctx context.Context, m *listenMaster, channel, payload string) error {
	m.member.mu.Lock()
	state, unasked := m.member.state, m.member.unasked
	m.member.mu.Unlock()
	if state == "" || unasked || s.noFlags.Load() {
		return errUnconfirmed
	}
	cmd := m.rdb.EvalSha(ctx, memberPulseScript.sharded.hash, nil, channel, payload, state)
	if isNoScript(cmd.Err()) {
		cmd = m.rdb.Eval(ctx, memberPulseScript.sharded.text, nil, channel, payload, state)
	}
	answer, err := cmd.Int()
	var refused redis.Error
	switch {
	case err == nil && answer == 1:
		return nil
	case isDemoted(err):
		return fmt.Errorf("%w: %w", errDemoted, err)
	case err != nil && !errors.As(err, &refused):
		return err
	case err == nil && answer == 0:
		return errUnconfirmed
	}
	m.member.mu.Lock()
	defer m.member.mu.Unlock()
	m.member.unasked = true
	return errUnconfirmed
}

// confirm asks the node whether the list has changed. A node that can't be asked, because the
// user may not, or because it is another kind of server, is assumed to confirm it.
func (m *member) confirm(ctx context.Context, node redis.Cmdable, channels []string) error {
	info, err := node.ClusterInfo(ctx).Result()
	if err != nil {
		return unlessRefused(err)
	}
	if field(info, "cluster_state") == "fail" {
		return errors.New("the cluster is down") // for this node: others may have another master
	}
	state := field(info, "cluster_size") + " " + field(info, "cluster_current_epoch")
	m.mu.Lock()
	known := m.state == state
	m.mu.Unlock()
	if known {
		return nil
	}
	l, err := layoutOf(ctx, node)
	if err != nil {
		return unlessRefused(err)
	}
	self, err := node.ClusterMyID(ctx).Result()
	if err != nil {
		return unlessRefused(err)
	}
	if err := m.compare(l, channels); err != nil {
		return err
	}
	if self != m.id && m.id != "" {
		return fmt.Errorf("%w: this is another one", errMoved)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	return nil
}

// compare returns an error if by another layout the node has other parts of the keys, or no longer has, or
// now has, the slot of one of the channels.
func (m *member) compare(l layout, channels []string) error {
	if m.id == "" {
		return nil
	}
	if !m.layout.sameFor(m.id, l) {
		return fmt.Errorf("%w: other nodes have the slots", errMoved)
	}
	o := member{id: m.id, layout: l}
	for _, c := range channels {
		if m.has(c) != o.has(c) {
			return fmt.Errorf("%w: the slot of a channel has moved", errMoved)
		}
	}
	return nil
}

// field returns the value of a name in CLUSTER INFO.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if val, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(val)
		}
	}
	return ""
}

// unlessRefused is nil for the error of a server that does not support such commands.
func unlessRefused(err error) error {
	if isRefusal(err) {
		return nil
	}
	return err
}

// isRefusal reports whether a server has answered that it does not know a command, or that this
// user may not use it.
func isRefusal(err error) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	kind, _, _ := strings.Cut(answer.Error(), " ")
	return kind == "ERR" || kind == "NOPERM" || kind == "NOPROTO"
}

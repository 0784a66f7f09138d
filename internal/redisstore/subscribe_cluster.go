package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// errMoved: the session listens to masters that are no longer those of the cluster, or of the
// ring.
var errMoved = errors.New("redisstore: the masters have changed")

// member follows the list of masters as one master of a cluster knows it. A heartbeat is sent
// only after that master has confirmed that the list is still the one of the session. The
// client's own list is not enough, since it is as old as the client's last request for it:
//
//  1. a replica takes the place of its master, which becomes its replica, or a node is added and
//     takes over slots
//  2. a write is acknowledged by the new master
//  3. a heartbeat through the old one comes back, and is taken for the proof that the messages of
//     all earlier writes have arrived
//  4. the write arrives at the old one as its replica, and is reported only now, or never
//
// A change of the list changes the number of masters, or gives the cluster a new epoch: the
// slots need to be read only then.
type member struct {
	masters int // in the session's list

	mu      sync.Mutex
	state   string   // cluster size and epoch at which ids was read; "" before the first
	ids     []string // of the masters
	unasked bool     // scripts do not ask for the state
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
	cmd := m.rdb.EvalSha(ctx, memberPulseScript.hash, nil, channel, payload, state)
	if isNoScript(cmd.Err()) {
		cmd = m.rdb.Eval(ctx, memberPulseScript.text, nil, channel, payload, state)
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
func (m *member) confirm(ctx context.Context, node redis.Cmdable) error {
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
	ids, err := masterIDs(ctx, node)
	if err != nil {
		return unlessRefused(err)
	}
	self, err := node.ClusterMyID(ctx).Result()
	if err != nil {
		return unlessRefused(err)
	}
	if ids[0] == "" {
		return nil // older servers do not report ids
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !slices.Contains(ids, self):
		return fmt.Errorf("%w: this is none", errMoved)
	case len(ids) != m.masters:
		return fmt.Errorf("%w: there are %d, and not %d", errMoved, len(ids), m.masters)
	case m.ids != nil && !slices.Equal(ids, m.ids):
		return fmt.Errorf("%w from %v to %v", errMoved, m.ids, ids)
	}
	m.state, m.ids = state, ids
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

// masterIDs lists the nodes that hold slots.
func masterIDs(ctx context.Context, node redis.Cmdable) ([]string, error) {
	slots, err := node.ClusterSlots(ctx).Result()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range slots {
		if len(s.Nodes) > 0 {
			ids = append(ids, s.Nodes[0].ID)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: there are none", errMoved)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
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

package redisstore

import (
	"context"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

const ScanCount = scanCount

// Subscribers is how many subscribers the shared sessions of a client have.
func Subscribers(rdb redis.UniversalClient) (n int) {
	return sumOverSessions(rdb, func(s *session) int { return len(s.subscribers) })
}

// Topics is how many channels and prefixes the shared sessions of a client are about.
func Topics(rdb redis.UniversalClient) (n int) {
	return sumOverSessions(rdb, func(s *session) int { return len(s.channels) + len(s.prefixes) })
}

func sumOverSessions(rdb redis.UniversalClient, of func(*session) int) (n int) {
	sessions.Lock()
	defer sessions.Unlock()
	for key, s := range sessions.of {
		if key.rdb == rdb {
			s.mu.Lock()
			n += of(s)
			s.mu.Unlock()
		}
	}
	return n
}

// ReadClockInSteps and AddTombstonesInSteps are Marks and Mark as they are while a slot moves.
func (s *Redis) ReadClockInSteps(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	return s.readClockInSteps(ctx, names, known, tags)
}

func (s *Redis) AddTombstonesInSteps(ctx context.Context, names store.Names, known logicalclock.Known, n *logicalclock.NewTombstone) (logicalclock.Reading, error) {
	return s.addTombstonesInSteps(ctx, names, known, n)
}

// ErrSteps says that others have changed the clock each time.
var ErrSteps = errSteps

// TakeTurn waits for a turn at a node, for TurnWait at most. TurnsIn is the number of nodes at which
// something waits for one, or has one.
func TakeTurn(ctx context.Context, node redis.UniversalClient) (end func()) {
	return takeTurn(ctx, node)
}

const TurnWait, PatientWait = turnWait, patientWait

func TurnsIn() int {
	turns.Lock()
	defer turns.Unlock()
	return len(turns.at)
}

// AskForTransactions asks the server whether it takes transactions, and returns the answer.
func (s *Redis) AskForTransactions(ctx context.Context) bool {
	s.transactions.state.Store(s.askForTransactions(ctx))
	return s.TakesTransactions()
}

// TakesTransactions reports whether the server is known to take transactions.
func (s *Redis) TakesTransactions() bool {
	return s.transactions.state.Load() == transactionsTaken
}

// TransactionsRefused reports whether the server is known not to take transactions.
func (s *Redis) TransactionsRefused() bool {
	return s.transactions.state.Load() == transactionsRefused
}

package writebehind

import "fmt"

// Backoff is how long a write that has failed so often is left alone.
var Backoff = backoff

// Held returns which partitions the queue holds.
func (q *Queue) Held() []int {
	var held []int
	for i, w := range q.workers {
		if w.holds.Load() {
			held = append(held, i)
		}
	}
	return held
}

// Shares says what the queue holds, how many partitions it may hold, and how many of those
// places are taken.
func (q *Queue) Shares() string {
	q.assignment.mu.Lock()
	defer q.assignment.mu.Unlock()
	return fmt.Sprintf("held %v: %d of %d places taken, %d wait for one", q.Held(), q.assignment.held, q.assignment.share, len(q.assignment.waiting))
}

// PartitionBacklog is how many writes fit in a partition.
const PartitionBacklog = partitionBacklog

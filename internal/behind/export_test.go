package behind

// Backoff is how long a write that has failed so often is left alone.
var Backoff = backoff

// Partition is where a key's writes go.
func Partition(key string) int { return partition(key) }

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

// PartitionBacklog is how many writes fit in a partition.
const PartitionBacklog = partitionBacklog

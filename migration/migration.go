// Package migration has the programs of docs/migration.md: for each cache that this library takes
// the place of, a service before and after, with a test that nothing is loaded again on the way.
package migration

import (
	"context"
	"fmt"
	"sync"
)

// Product is what the services of the guide keep.
type Product struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Stock int    `json:"stock"`
}

// Repo is the database of the services, which counts how often it is asked.
type Repo struct {
	mu    sync.Mutex
	stock map[int64]int
	loads map[int64]int
}

// Product loads a product.
func (r *Repo) Product(_ context.Context, id int64) (Product, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loads == nil {
		r.loads = map[int64]int{}
	}
	r.loads[id]++
	return Product{ID: id, Name: fmt.Sprint("product ", id), Stock: r.stock[id]}, nil
}

// SetStock changes a product.
func (r *Repo) SetStock(_ context.Context, id int64, n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stock == nil {
		r.stock = map[int64]int{}
	}
	r.stock[id] = n
	return nil
}

// Loads returns how often a product was loaded.
func (r *Repo) Loads(id int64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loads[id]
}

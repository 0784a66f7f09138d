package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/delqhi/cache/outbox"
	_ "modernc.org/sqlite" // in pure Go
)

// Product is a row of the table of that name.
type Product struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Shelf string `json:"shelf"`
	Cents int64  `json:"cents"`
}

// store is the database, and the outbox in it. Its methods know nothing of a cache.
type store struct {
	db  *sql.DB
	box *outbox.Outbox
}

const schema = `
CREATE TABLE IF NOT EXISTS product (
	id    INTEGER PRIMARY KEY,
	name  TEXT NOT NULL,
	shelf TEXT NOT NULL,
	cents INTEGER NOT NULL CHECK (cents > 0)
);
CREATE INDEX IF NOT EXISTS product_shelf ON product (shelf, id);
INSERT OR IGNORE INTO product (id, name, shelf, cents) VALUES
	(1, 'Assam', 'tea', 690), (2, 'Darjeeling', 'tea', 1240), (3, 'Sencha', 'tea', 980), (4, 'Rooibos', 'tea', 450),
	(5, 'Sidamo', 'coffee', 1390), (6, 'Huila', 'coffee', 1290), (7, 'Mandheling', 'coffee', 1490), (8, 'Robusta', 'coffee', 790);
`

func openStore(ctx context.Context, file string) (*store, error) {
	box, err := outbox.New(outbox.SQLite)
	if err != nil {
		return nil, err
	}
	// Several instances write to one file: each waits for the others.
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// A larger program has a tool for its migrations, which takes those of box.Migrations.
	if _, err := db.ExecContext(ctx, schema+box.Schema()); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("set up the database: %w", err)
	}
	return &store{db, box}, nil
}

func (s *store) close() error { return s.db.Close() }

// product returns sql.ErrNoRows if there is none.
func (s *store) product(ctx context.Context, id int64) (p Product, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT id, name, shelf, cents FROM product WHERE id = ?`, id).Scan(&p.ID, &p.Name, &p.Shelf, &p.Cents)
	return p, err
}

// products returns those of the ids that there are, in any order.
func (s *store) products(ctx context.Context, ids []int64) (list []Product, err error) {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	rows, err := s.db.QueryContext(ctx, `SELECT id, name, shelf, cents FROM product WHERE id IN (?`+strings.Repeat(", ?", len(ids)-1)+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p Product
		if err := rows.Scan(&p.ID, &p.Name, &p.Shelf, &p.Cents); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// change runs a transaction. Statements of another one wait meanwhile, as SQLite has one writer at
// a time.
func (s *store) change(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// reprice adds to the price of a product, and returns it as it then is; sql.ErrNoRows if there is
// none.
func reprice(ctx context.Context, tx *sql.Tx, id, cents int64) (p Product, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE product SET cents = MAX(1, cents + ?) WHERE id = ? RETURNING id, name, shelf, cents`, cents, id).
		Scan(&p.ID, &p.Name, &p.Shelf, &p.Cents)
	return p, err
}

// raise changes all prices of a shelf at once, by a number of percent.
func raise(ctx context.Context, tx *sql.Tx, shelf string, percent int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE product SET cents = MAX(1, cents * (100 + ?) / 100) WHERE shelf = ?`, percent, shelf)
	return err
}

// shelf returns the ids of what is on a shelf.
func (s *store) shelf(ctx context.Context, name string) (ids []int64, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id FROM product WHERE shelf = ? ORDER BY id`, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 && rows.Err() == nil {
		return nil, sql.ErrNoRows
	}
	return ids, rows.Err()
}

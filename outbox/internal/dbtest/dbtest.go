// Package dbtest starts real PostgreSQL, MariaDB and MySQL servers for tests, in temporary directories
// of their own and on Unix sockets, so that they take no port and meet no other server. A binary
// has one of each at most; every test gets a database of its own in it. SQLite needs no server.
//
// Where a server is not installed tests skip and say so; with CACHE_TEST_REQUIRE_DATABASES=1 that
// is a failure. MySQL is not among the packages of Debian, and not part of that: its server is the
// mysqld that CACHE_TEST_MYSQLD names, or the one in the path if it is MySQL's, and with
// CACHE_TEST_REQUIRE_MYSQL=1 a missing one is a failure.
package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

// These make a missing server a failure instead of a reason to skip.
const (
	requireEnv      = "CACHE_TEST_REQUIRE_DATABASES"
	requireMySQLEnv = "CACHE_TEST_REQUIRE_MYSQL"
)

// patience bounds how long a server may take for what it does in a second or two.
const patience = 60 * time.Second

// Servers are the names of the databases of [New] that are servers, and Kinds of all. Where the
// other databases are required, MySQL is among them only if there is one, or if it is required.
var (
	Servers = servers()
	Kinds   = append(slices.Clip(Servers), "SQLite")
)

func servers() []string {
	all := []string{"PostgreSQL", "MariaDB", "MySQL"}
	if os.Getenv(requireEnv) != "" && os.Getenv(requireMySQLEnv) == "" {
		if _, err := findMySQL(); errors.Is(err, errMissing) {
			return all[:2]
		}
	}
	return all
}

// Database is an empty database, as any process can open it.
type Database struct {
	Kind   string
	Driver string
	DSN    string
}

// Open returns a connection pool, closed by the caller.
func (d Database) Open() (*sql.DB, error) { return sql.Open(d.Driver, d.DSN) }

var count atomic.Int64

// New makes a database of a kind and a connection pool for it, which lives as long as the test.
func New(tb testing.TB, kind string) (Database, *sql.DB) {
	tb.Helper()
	d := Database{Kind: kind}
	name := fmt.Sprintf("test%d", count.Add(1))
	switch kind {
	case "PostgreSQL":
		s := postgres.get(tb)
		s.exec(tb, "pgx", s.dsn("postgres"), "CREATE DATABASE "+name)
		d.Driver, d.DSN = "pgx", s.dsn(name)
	case "MariaDB":
		s := mariadb.get(tb)
		s.exec(tb, "mysql", s.dsn("mysql"), "CREATE DATABASE "+name)
		d.Driver, d.DSN = "mysql", s.dsn(name)
	case "MySQL":
		s := mysql.get(tb)
		s.exec(tb, "mysql", s.dsn("mysql"), "CREATE DATABASE "+name)
		d.Driver, d.DSN = "mysql", s.dsn(name)
	case "SQLite":
		d.Driver = "sqlite"
		d.DSN = "file:" + filepath.Join(tb.TempDir(), "db") + "?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate"
	default:
		tb.Fatalf("dbtest: there is no %s", kind)
	}
	db, err := d.Open()
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxIdleConns(32) // a connection to PostgreSQL is a process
	tb.Cleanup(func() { _ = db.Close() })
	return d, db
}

// Stop ends the servers; TestMain calls it after the tests.
func Stop() {
	postgres.stop()
	mariadb.stop()
	mysql.stop()
}

// server is started by the first test that needs it.
type server struct {
	name    string
	install string // how to get it
	require string // the environment variable that makes it a failure if it is missing
	run     func(dir string) (*exec.Cmd, error)
	driver  string
	dsn     func(dir, database string) string
	admin   string // a database that every server has
	quit    os.Signal

	once    sync.Once
	started *started
	missing error // it is not installed
	failed  error
}

type started struct {
	dir     string
	log     bytes.Buffer
	process *process
	of      *server
}

func (s *started) dsn(database string) string { return s.of.dsn(s.dir, database) }

var errMissing = errors.New("is not installed")

func (s *server) get(tb testing.TB) *started {
	tb.Helper()
	if testing.Short() {
		tb.Skip("it starts a database server, which -short leaves out")
	}
	s.once.Do(s.start)
	if s.missing != nil {
		if os.Getenv(s.require) != "" {
			tb.Fatalf("%s %v, and %s is set", s.name, s.missing, s.require)
		}
		tb.Skipf("%s %v (%s)", s.name, s.missing, s.install)
	}
	if s.failed != nil {
		tb.Fatal(s.failed)
	}
	return s.started
}

func (s *server) start() {
	dir, err := os.MkdirTemp("", "db")
	if err != nil {
		s.failed = err
		return
	}
	s.started = &started{dir: dir, of: s}
	cmd, err := s.prepare(dir)
	if errors.Is(err, errMissing) {
		s.missing = err
		return
	}
	if err == nil {
		cmd.Stdout, cmd.Stderr = &s.started.log, &s.started.log
		s.started.process, err = start(cmd)
	}
	if err == nil {
		err = s.await()
	}
	if err != nil {
		s.failed = fmt.Errorf("dbtest: %s: %w", s.name, err)
	}
}

// prepare gives the directory to the user that the server runs as, and makes its files.
func (s *server) prepare(dir string) (*exec.Cmd, error) {
	if err := giveAway(dir); err != nil {
		return nil, err
	}
	return s.run(dir)
}

func (s *server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		db, err := sql.Open(s.driver, s.dsn(s.started.dir, s.admin))
		if err != nil {
			return err
		}
		err = db.PingContext(ctx)
		_ = db.Close()
		if err == nil {
			return nil
		}
		select {
		case <-s.started.process.exited:
			return fmt.Errorf("it has ended: %s", s.started.log.String())
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) stop() {
	if s.started == nil {
		return
	}
	if s.started.process != nil {
		s.started.process.end(s.quit)
	}
	_ = os.RemoveAll(s.started.dir)
}

func (s *started) exec(tb testing.TB, driver, dsn, query string) {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		tb.Fatal(err)
	}
}

// find returns the first program that exists, from the PATH or a pattern of files.
func find(names ...string) (string, error) {
	for _, n := range names {
		if filepath.IsAbs(n) {
			if all, _ := filepath.Glob(n); len(all) > 0 {
				return all[len(all)-1], nil
			}
			continue
		}
		if p, err := exec.LookPath(n); err == nil {
			return filepath.EvalSymlinks(p)
		}
	}
	return "", errMissing
}

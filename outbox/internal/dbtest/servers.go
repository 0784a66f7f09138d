package dbtest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
)

// The servers need not survive a crash of the machine: nothing is synced to the disk.

var postgres = &server{
	name: "PostgreSQL", install: "postgresql", driver: "pgx", admin: "postgres",
	quit: syscall.SIGQUIT, // at once, with all children
	dsn: func(dir, database string) string {
		return fmt.Sprintf("host=%s port=5432 user=test dbname=%s sslmode=disable", dir, database)
	},
	run: func(dir string) (*exec.Cmd, error) {
		binary, err := find("postgres", "/usr/lib/postgresql/*/bin/postgres")
		if err != nil {
			return nil, err
		}
		data := filepath.Join(dir, "data")
		initdb := exec.Command(filepath.Join(filepath.Dir(binary), "initdb"), "-D", data, "-A", "trust", "-U", "test", "-E", "UTF8", "--no-locale", "-N")
		if err := runAs(initdb, dir); err != nil {
			return nil, err
		}
		cmd := exec.Command(binary, "-D", data, "-h", "", "-k", dir, "-p", "5432",
			"-c", "fsync=off", "-c", "max_connections=300", "-c", "shared_buffers=32MB", "-c", "deadlock_timeout=200ms")
		return cmd, nil
	},
}

var mariadb = &server{
	name: "MariaDB", install: "mariadb-server", driver: "mysql", admin: "mysql",
	quit: syscall.SIGKILL,
	dsn: func(dir, database string) string {
		return fmt.Sprintf("root@unix(%s)/%s", filepath.Join(dir, "socket"), database)
	},
	run: func(dir string) (*exec.Cmd, error) {
		binary, err := find("mariadbd", "/usr/sbin/mariadbd", "mysqld", "/usr/sbin/mysqld")
		if err != nil {
			return nil, err
		}
		install, err := find("mariadb-install-db", "/usr/bin/mariadb-install-db")
		if err != nil {
			return nil, err
		}
		data := filepath.Join(dir, "data")
		if err := runAs(exec.Command(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db"), dir); err != nil {
			return nil, err
		}
		cmd := exec.Command(binary, "--no-defaults", "--datadir="+data, "--socket="+filepath.Join(dir, "socket"), "--pid-file="+filepath.Join(dir, "pid"),
			"--skip-networking", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--max-connections=300")
		return cmd, nil
	},
}

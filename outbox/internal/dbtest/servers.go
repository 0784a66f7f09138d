package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The servers need not survive a crash of the machine: nothing is synced to the disk.

var postgres = &server{
	name: "PostgreSQL", install: "Debian, Ubuntu: apt-get install postgresql", require: requireEnv, driver: "pgx", admin: "postgres",
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
	name: "MariaDB", install: "Debian, Ubuntu: apt-get install mariadb-server", require: requireEnv, driver: "mysql", admin: "mysql",
	quit: syscall.SIGKILL,
	dsn:  socketDSN,
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

func socketDSN(dir, database string) string {
	return fmt.Sprintf("root@unix(%s)/%s", filepath.Join(dir, "socket"), database)
}

// mysqldEnv names the server of MySQL. MariaDB installs a program of the same name.
const mysqldEnv = "CACHE_TEST_MYSQLD"

var mysql = &server{
	name: "MySQL", install: "its mysqld is looked for in the path and in " + mysqldEnv, require: requireMySQLEnv, driver: "mysql", admin: "mysql",
	quit: syscall.SIGKILL,
	dsn:  socketDSN,
	run: func(dir string) (*exec.Cmd, error) {
		binary, err := findMySQL()
		if err != nil {
			return nil, err
		}
		data := filepath.Join(dir, "data")
		if err := runAs(exec.Command(binary, "--no-defaults", "--initialize-insecure", "--datadir="+data), dir); err != nil {
			return nil, err
		}
		cmd := exec.Command(binary, "--no-defaults", "--datadir="+data, "--socket="+filepath.Join(dir, "socket"), "--pid-file="+filepath.Join(dir, "pid"),
			"--skip-networking", "--mysqlx=OFF", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--max-connections=300")
		return cmd, nil
	},
}

// findMySQL returns the server of MySQL. One that was named and can't be run is a mistake, and not
// a missing one.
func findMySQL() (string, error) {
	named := os.Getenv(mysqldEnv)
	binary, err := named, error(nil)
	if named == "" {
		if binary, err = find("mysqld", "/usr/sbin/mysqld"); err != nil {
			return "", err
		}
	}
	says, err := exec.Command(binary, "--no-defaults", "--version").Output()
	switch {
	case named != "" && err != nil:
		return "", fmt.Errorf("%s, which %s names: %w", named, mysqldEnv, err)
	case named != "" && strings.Contains(string(says), "MariaDB"):
		return "", fmt.Errorf("%s, which %s names, is MariaDB's: %s", named, mysqldEnv, says)
	case err != nil || strings.Contains(string(says), "MariaDB"):
		return "", errMissing
	}
	return binary, nil
}

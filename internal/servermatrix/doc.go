// Package servermatrix tests what of a cache works on which server, and prints it as the tables of
// docs/servers.md. It has tests only.
//
// The tests run on the redis-server of the machine, and on restricted front ends before it. Other
// servers are given by their programs:
//
//	go test ./internal/servermatrix -run Matrix -v -args -servers /path/redis-server,/path/valkey-server
//
// prints their rows; with -update they replace those in docs/servers.md, and rows of versions that
// are not given stay.
package servermatrix

// Package archtest holds no code but a test: it reads the imports of every
// file in the module, whatever its build tags, and compares them with a table
// of what each package may import.
//
// The table is in rules_test.go. A new package fails the test until it has its
// line there, so that the table is always the whole architecture.
package archtest

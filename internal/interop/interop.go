// Package interop holds docs/format.md to its word: test vectors that are made by the code of this
// library, and the clients in other languages below docs/clients, run against the vectors and
// against caches on a server. It has tests only.
package interop

// Package check has the tests of the documentation: its links, programs, snippets, commands and
// names. They look at every Markdown file of the repository, and reach nothing beyond it.
package check

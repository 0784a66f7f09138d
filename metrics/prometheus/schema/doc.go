// Package schema has the test that holds the Grafana dashboard against Grafana's own schema. It
// is a module of its own, so that the schema does not become a dependency of the exporter.
package schema

package otel

import (
	"strconv"

	"github.com/delqhi/cache/metrics"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// durationBounds are the bounds that the conventions ask of db.client.operation.duration, in
// seconds.
var durationBounds = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}

// operationName is the value of db.operation.name. Commands of a pipeline are named together if
// they are alike. What is no command, such as looking for the masters of a cluster, has the name
// that the cache gives to it.
func operationName(op metrics.RemoteEvent) string {
	command := text(op.Command)
	switch {
	case op.Commands > 1 && command == "":
		return "PIPELINE"
	case op.Commands > 1:
		return "PIPELINE " + command
	case command == "":
		return text(op.Op)
	}
	return command
}

// spanName is the name of the operation, and what it is performed on: a script, or the server.
func spanName(op metrics.RemoteEvent) string {
	name, server := operationName(op), op.Server
	switch {
	case op.Script != "":
		return name + " " + text(op.Script)
	case server.Address == "":
		return name
	case server.Port == 0:
		return name + " " + text(server.Address)
	}
	return name + " " + text(server.Address) + ":" + strconv.Itoa(server.Port)
}

// database are the attributes of an operation, for its span and for its duration.
func database(op metrics.RemoteEvent) []attribute.KeyValue {
	all := []attribute.KeyValue{
		named(op.Cache), attribute.String("cache.operation", text(op.Op)), ended(op.Outcome),
		semconv.DBSystemNameRedis, semconv.DBOperationName(operationName(op)),
	}
	if op.Script != "" {
		all = append(all, semconv.DBStoredProcedureName(text(op.Script)))
	}
	if op.Server.Database != "" {
		all = append(all, semconv.DBNamespace(text(op.Server.Database)))
	}
	if op.Server.Address != "" {
		all = append(all, semconv.ServerAddress(text(op.Server.Address)))
		if op.Server.Port != 0 {
			all = append(all, semconv.ServerPort(op.Server.Port))
		}
	}
	if failed(op.Outcome) {
		kind := op.Outcome.String()
		if op.Status != "" {
			kind = text(op.Status)
			all = append(all, semconv.DBResponseStatusCode(kind))
		}
		all = append(all, semconv.ErrorTypeKey.String(kind))
	}
	return all
}

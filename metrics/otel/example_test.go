package otel_test

import (
	"context"
	"fmt"

	"github.com/delqhi/cache"
	cacheotel "github.com/delqhi/cache/metrics/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func Example() {
	ctx := context.Background()
	spans, reader := tracetest.NewInMemoryExporter(), metric.NewManualReader() // in a program, those of a collector
	tracers := trace.NewTracerProvider(trace.WithSyncer(spans))
	meters := metric.NewMeterProvider(metric.WithReader(reader))

	recorder, err := cacheotel.NewRecorder(tracers, meters)
	if err != nil {
		panic(err)
	}
	users, err := cache.New[int, string](nil, "users", cache.LocalOnly(), cache.WithRecorder(recorder))
	if err != nil {
		panic(err)
	}
	defer users.Close()
	if _, err := cacheotel.Observe(meters, users); err != nil {
		panic(err)
	}

	ctx, request := tracers.Tracer("program").Start(ctx, "GET /users/42")
	for range 4 {
		_, err := users.GetOrLoad(ctx, 42, func(context.Context, int) (string, error) { return "Ada", nil })
		if err != nil {
			panic(err)
		}
	}
	request.End()

	for _, span := range spans.GetSpans() {
		fmt.Println(span.Name)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		panic(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "cache.requests" {
			for _, p := range sum.DataPoints {
				result, _ := p.Attributes.Value("cache.result")
				tier, _ := p.Attributes.Value("cache.tier")
				fmt.Println(m.Name, result.AsString(), tier.AsString(), p.Value)
			}
		}
	}
	// Unordered output:
	// load users
	// GET /users/42
	// cache.requests hit local 3
	// cache.requests hit remote 0
	// cache.requests miss none 1
}

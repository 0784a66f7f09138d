package histogram_test

import (
	"context"
	"fmt"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics/otel/histogram"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func ExampleNewProducer() {
	ctx := context.Background()
	users, err := cache.New[int, string](nil, "users", cache.LocalOnly())
	if err != nil {
		panic(err)
	}
	defer users.Close()

	// In a program: metric.NewPeriodicReader(exporter, metric.WithProducer(…))
	reader := metric.NewManualReader(metric.WithProducer(histogram.NewProducer(users)))
	defer metric.NewMeterProvider(metric.WithReader(reader)).Shutdown(ctx)

	for key := range 3 {
		if err := users.Set(ctx, key, "Ada"); err != nil {
			panic(err)
		}
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		panic(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		for _, p := range m.Data.(metricdata.Histogram[float64]).DataPoints {
			if p.Count > 0 {
				operation, _ := p.Attributes.Value("cache.operation")
				fmt.Println(m.Name, operation.AsString(), p.Count)
			}
		}
	}
	// Output:
	// cache.operation.duration set 3
}

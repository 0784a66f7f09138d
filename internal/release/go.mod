module github.com/delqhi/cache/internal/release

go 1.26.0

require (
	go.yaml.in/yaml/v2 v2.4.4
	golang.org/x/mod v0.43.0
)

module github.com/delqhi/cache/codec/proto

go 1.26.0

replace github.com/delqhi/cache => ../../

require (
	github.com/delqhi/cache v0.1.0
	google.golang.org/protobuf v1.36.9
)

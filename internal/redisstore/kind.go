package redisstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/redis/go-redis/v9"
)

// ErrUnknownClient is the error of operations that depend on whether a client is one of a
// single server, a cluster or a ring, where that can't be determined: it decides where
// notifications come from and which servers to scan. It matches errors.ErrUnsupported.
var ErrUnknownClient = fmt.Errorf("whether the client is one of a single server, a cluster or a ring can't be known: %w", errors.ErrUnsupported)

// clientKind is the kind of a client, determined by its methods rather than by its type, so
// that a type that embeds a client counts as one. At most one field is set.
type clientKind struct {
	single  singleClient
	cluster clusterClient
	ring    ringClient
}

type (
	// singleClient is a client of one server, which takes commands on several keys.
	singleClient interface {
		Options() *redis.Options
	}
	clusterClient interface {
		Options() *redis.ClusterOptions
		MasterForKey(ctx context.Context, key string) (*redis.Client, error)
		ForEachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error
	}
	ringClient interface {
		Options() *redis.RingOptions
		GetShardClientForKey(key string) (*redis.Client, error)
		ForEachShard(ctx context.Context, f func(context.Context, *redis.Client) error) error
	}
)

var (
	_ singleClient  = (*redis.Client)(nil)
	_ clusterClient = (*redis.ClusterClient)(nil)
	_ ringClient    = (*redis.Ring)(nil)
)

// unwrapsMost is the maximum depth of nested decorators: more are a cycle.
const unwrapsMost = 100

// kindOf determines the kind of a client. A decorator that hides it, such as one that embeds a
// redis.UniversalClient, reveals it by a method Unwrap, which returns the inner client.
func kindOf(rdb redis.UniversalClient) (k clientKind, err error) {
	defer func() {
		// For example a decorator around a nil client.
		if v := recover(); v != nil {
			err = fmt.Errorf("the client, a %T, panics when it is asked what it is: %v", rdb, v)
		}
	}()
	outer := rdb
	for range unwrapsMost {
		if v := reflect.ValueOf(rdb); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			return k, fmt.Errorf("the client, a %T, unwraps to nil", outer)
		}
		switch c := rdb.(type) {
		case singleClient:
			c.Options() // panics if it is nil
			k.single = c
		case clusterClient:
			c.Options() // panics if it is nil
			k.cluster = c
		case ringClient:
			c.Options() // panics if it is nil
			k.ring = c
		case interface{ Unwrap() redis.UniversalClient }:
			rdb = c.Unwrap()
			continue
		}
		outer.PoolStats()
		return k, nil
	}
	return k, fmt.Errorf("the client, a %T, unwraps to no client", outer)
}

// check refuses a client that may read data older than the last write.
func (k *clientKind) check() error {
	if k.cluster != nil {
		if o := k.cluster.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return errors.New("the cluster client reads from replicas, which may be older than what was just written: build it without ReadOnly, ReplicaOnly, RouteByLatency and RouteRandomly")
		}
	}
	if k.single != nil {
		if o := k.single.Options(); o.ClientSideCacheConfig != nil || o.ClientSideCache != nil {
			return errors.New("the client caches replies itself, which may be older than what was just written: build it without ClientSideCache and ClientSideCacheConfig")
		}
	}
	return nil
}

// errUnknownDatabase: the channel on which processes notify each other has the number of the
// database in its name.
var errUnknownDatabase = errors.New("which database the client selects can't be known")

// databaseOf returns the number of the database that a client selects. For a decorator of
// unknown kind it is that of the client that it embeds.
func databaseOf(rdb redis.UniversalClient, kind clientKind) (n int, ok bool) {
	switch {
	case kind.single != nil:
		return kind.single.Options().DB, true
	case kind.ring != nil:
		return kind.ring.Options().DB, true
	case kind.cluster != nil:
		return 0, true
	}
	v := reflect.Indirect(reflect.ValueOf(rdb))
	if v.Kind() != reflect.Struct {
		return 0, false
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.Anonymous || !f.IsExported() {
			continue
		}
		inner, is := v.Field(i).Interface().(redis.UniversalClient)
		if !is {
			continue
		}
		if kind, err := kindOf(inner); err == nil {
			return databaseOf(inner, kind)
		}
	}
	return 0, false
}

// Unknown returns an error that matches [ErrUnknownClient] if the kind of the client is not
// known: then no notifications can be received, and no keys can be scanned. Everything else
// works.
func (s *Redis) Unknown() error {
	if s.single != nil || s.cluster != nil || s.ring != nil {
		return nil
	}
	return fmt.Errorf("%w: it is a %T: give that a method Unwrap() redis.UniversalClient, which returns the client that it decorates", ErrUnknownClient, s.rdb)
}

package storetest

// ServerError is an error that a server has replied with, for the tests of what is made of it.
type ServerError string

func (e ServerError) Error() string { return string(e) }

// RedisError makes it a redis.Error.
func (ServerError) RedisError() {}

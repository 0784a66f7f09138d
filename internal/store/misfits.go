package store

// Misfit is the reason for errors that do not pass by themselves: the server, a proxy in front
// of it, its user or the client does not meet the requirements.
type Misfit uint8

const (
	Fits            Misfit = iota // no such reason
	Forbidden                     // the user may not do something
	Unauthenticated               // there is no such user, or the password is wrong
	UnknownCommand                // the server, or a proxy, lacks a command
	OneOfACluster                 // a node of a cluster, through a client of one server
	NoCluster                     // one server, through a client of a cluster
	Replica                       // the server is a replica, which takes no writes
	Outdated                      // the server is older than Redis 7.0
	NoDatabase                    // the database can't be selected
	Hangup                        // the connection is closed at a command
	NoScripts                     // the server, or a proxy, runs no scripts
	OneSlot                       // commands with keys of several slots are refused
	NoPubSub                      // the server, or a proxy, has no SUBSCRIBE or PUBLISH

	Misfits // the number of values
)

// misfitTexts has the problem and its remedy for each misfit.
var misfitTexts = [Misfits]struct{ problem, remedy string }{
	Forbidden: {
		"the user of Redis may not run a command, or not on keys or channels of the cache",
		"grant what docs/deployment.md lists under Permissions",
	},
	Unauthenticated: {
		"Redis does not accept the user or the password",
		"correct the credentials of the client",
	},
	UnknownCommand: {
		"the server, or a proxy in front of it, does not know a command or does not allow it",
		"connect to the server itself, Redis 6.2 or later or one that docs/servers.md lists, with the commands that docs/deployment.md lists under Permissions",
	},
	OneOfACluster: {
		"the server is a node of a cluster, and the client one for a single server",
		"use redis.NewClusterClient, or for cache.NewClient a URL with several hosts or with cluster=true",
	},
	NoCluster: {
		"the client is one for a cluster, and the server is none",
		"use redis.NewClient, or for cache.NewClient a URL with one host",
	},
	Replica: {
		"the server is a replica, which takes no writes",
		"connect to its master",
	},
	Outdated: {
		"the server is older than Redis 7.0: scripts are used in the place of commands that it does not know",
		"use Redis 7.0 or later; docs/servers.md says what older servers lack",
	},
	NoDatabase: {
		"the server has no such database",
		"select database 0, the only one of a cluster and of most proxies",
	},
	Hangup: {
		"the connection is closed at a command each time, as proxies do that do not know it",
		"connect to the server itself",
	},
	NoScripts: {
		"the server, or a proxy in front of it, runs no scripts (EVAL, EVALSHA), which each write of a cache needs",
		"connect to the server itself, Redis 6.2 or later or one that docs/servers.md lists, with EVAL and EVALSHA permitted",
	},
	OneSlot: {
		"the server, a node of a cluster or a proxy in front of one, refuses commands with keys of several slots: keys are sent one by one",
		"use redis.NewClusterClient, or for cache.NewClient a URL with several hosts or with cluster=true",
	},
	NoPubSub: {
		"the server, or a proxy in front of it, does not know SUBSCRIBE or PUBLISH: notifications don't arrive, and the local tier is not used",
		"connect to the server itself, or choose invalidate.NoTransport() and no local tier",
	},
}

// Problem describes the problem.
func (m Misfit) Problem() string { return misfitTexts[m].problem }

// Remedy says how to fix it.
func (m Misfit) Remedy() string { return misfitTexts[m].remedy }

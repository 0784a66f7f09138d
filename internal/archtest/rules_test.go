package archtest

// A rule says what one package of the module may import. Its tests may import
// the same, and what [table] allows to tests. Packages of the standard library
// are free for all, but for those in table.restricted.
type rule struct {
	module []string // packages of the module, by their path below it; "." is the root
	others []string // third-party modules
	tests  []string // packages of the module that its tests may import besides
	helper bool     // made for tests: every test may import it, nothing else may
}

// A table is the architecture of a module.
type table struct {
	// packages has a rule for every package of the module. A key that ends in
	// "/..." holds for all packages below that folder which have no rule of
	// their own.
	packages map[string]rule

	// public are the packages that an external test package may import,
	// whatever it tests: it stands where a user stands.
	public []string

	// testOthers are the third-party modules that every test may import.
	testOthers []string

	// restricted has the packages of the standard library that are not free,
	// with the reason.
	restricted map[string]restriction
}

// A restriction says why a package of the standard library is not free.
type restriction struct {
	reason string
	tests  bool // tests and helpers may import it all the same
}

// Third-party modules, by the names that the rules use.
const (
	goRedis   = "github.com/redis/go-redis/v9"
	miniRedis = "github.com/alicebob/miniredis/v2"
	golangLRU = "github.com/hashicorp/golang-lru/v2"
	msgpack   = "github.com/vmihailenco/msgpack/v5"
	compress  = "github.com/klauspost/compress"
	crypto    = "golang.org/x/crypto"
	xxhash    = "github.com/cespare/xxhash/v2"
	goleak    = "go.uber.org/goleak"
)

// architecture is the table of this module. Imports point one way, from the
// root down; siblings do not know each other; a third-party module has one
// owner, so that it can be replaced in one place. What is in every Redis
// command is in internal/redisstore; go-redis stands elsewhere only for the type
// of a client that a user hands in, or to make one, and of its errors.
var architecture = table{
	packages: map[string]rule{
		".": {
			module: []string{
				"codec", "strategy", "invalidate", "metrics",
				"internal/engine", "internal/errs", "internal/fence", "internal/hook", "internal/keys", "internal/local",
				"internal/redisstore", "internal/redisurl", "internal/store", "internal/topk", "internal/usercode",
			},
			others: []string{goRedis, xxhash},
		},

		// What users configure a cache with.
		"codec":      {others: []string{msgpack, compress, crypto}},
		"strategy":   {module: []string{"internal/errs", "internal/usercode"}},
		"invalidate": {module: []string{"internal/errs", "internal/usercode", "internal/client", "internal/invalidation", "internal/keys", "internal/logicalclock", "internal/message", "internal/redisstore", "internal/store"}, others: []string{goRedis}},
		"metrics":    {},

		// A page to look at.
		"metrics/dashboard": {module: []string{"internal/logonce", "internal/metrictable", "metrics"}},
		// Apart from metrics because of what it brings: net/http.
		"metrics/expvar": {module: []string{"metrics"}},
		// What the exporters show that are modules of their own.
		"internal/metrictable": {module: []string{"metrics"}},

		// The mechanism.
		"internal/engine": {
			module: []string{
				"codec", "strategy", "invalidate", "metrics",
				"internal/breaker", "internal/client", "internal/coherence", "internal/errs", "internal/expiring", "internal/fence", "internal/flight", "internal/frame",
				"internal/glob", "internal/hook", "internal/invalidation", "internal/keys", "internal/local", "internal/logicalclock",
				"internal/message", "internal/report", "internal/retryqueue", "internal/stat", "internal/store", "internal/topk", "internal/usercode", "internal/writebehind",
			},
			others: []string{goRedis},
			tests:  []string{"internal/logonce"},
		},
		"internal/coherence": {module: []string{
			"internal/client", "internal/fence", "internal/frame", "internal/glob", "internal/invalidation", "internal/local",
			"internal/logicalclock", "internal/message", "internal/retryqueue", "internal/store",
		}},
		"internal/invalidation": {module: []string{"internal/client", "internal/frame", "internal/logicalclock", "internal/message", "internal/store"}, tests: []string{"internal/keys"}},
		"internal/retryqueue":   {},
		"internal/message":      {},
		"internal/writebehind":  {module: []string{"internal/store", "internal/usercode"}, others: []string{xxhash}, tests: []string{"internal/client", "internal/redisstore"}},

		// What speaks to Redis.
		"internal/client":       {module: []string{"internal/breaker", "internal/logicalclock", "internal/stackgrow", "internal/store"}, others: []string{goRedis}, tests: []string{"internal/redisstore"}},
		"internal/redisstore":   {module: []string{"internal/logicalclock", "internal/store"}, others: []string{goRedis}, tests: []string{"internal/client"}},
		"internal/store":        {module: []string{"internal/logicalclock"}},
		"internal/logicalclock": {},
		"internal/breaker":      {},

		// Parts that know nothing of Redis.
		"internal/errs":      {},
		"internal/usercode":  {},
		"internal/expiring":  {},
		"internal/fence":     {},
		"internal/flight":    {module: []string{"internal/stackgrow"}},
		"internal/frame":     {tests: []string{"internal/store"}, others: []string{xxhash}},
		"internal/glob":      {},
		"internal/keys":      {module: []string{"internal/errs", "internal/usercode"}},
		"internal/local":     {module: []string{"internal/fence", "internal/percpu"}, others: []string{golangLRU}},
		"internal/logonce":   {},
		"internal/report":    {module: []string{"internal/logonce", "internal/store", "internal/usercode"}, others: []string{goRedis}},
		"internal/redisurl":  {module: []string{"internal/errs"}, others: []string{goRedis}},
		"internal/stat":      {module: []string{"internal/percpu", "metrics"}},
		"internal/stackgrow": {},
		"internal/percpu":    {},
		"internal/topk":      {},

		// The command line for operators. It asks the server what no cache does, and by cache.Probe what
		// programs ask.
		"internal/ctl": {
			module: []string{
				".", "codec", "invalidate",
				"internal/errs", "internal/frame", "internal/glob", "internal/invalidation", "internal/keys", "internal/logicalclock", "internal/message",
				"internal/redisstore", "internal/redisurl", "internal/store", "internal/usercode", "internal/writebehind",
			},
			others: []string{goRedis, xxhash},
		},
		"cmd/cachectl": {module: []string{"internal/ctl"}, others: []string{goRedis}},

		// Starts the book, which is a module of its own.
		"docs/serve": {},

		// For tests, those of users included. cachetest stands where a user stands, on the whole
		// cache, and embeds a server: miniredis is required by the library's own tests anyway,
		// and is linked into no program.
		"cachetest":                    {module: []string{".", "metrics", "internal/cmdscan"}, others: []string{goRedis, miniRedis}, helper: true},
		"codec/codectest":              {module: []string{"codec"}, helper: true},
		"metrics/metricstest":          {module: []string{"metrics"}, helper: true},
		"internal/logonce/logoncetest": {module: []string{"internal/logonce"}, helper: true},
		"internal/valuetest":           {others: []string{msgpack}, helper: true},
		"internal/cmdscan":             {helper: true},
		"internal/storetest":           {module: []string{"internal/glob", "internal/logicalclock", "internal/store"}, helper: true},
		"internal/redistest":           {others: []string{goRedis, miniRedis, goleak}, helper: true},
		"internal/archtest":            {},
		"internal/hook":                {module: []string{"internal/coherence", "internal/fence", "internal/invalidation", "internal/store"}},

		// Tests of the whole.
		"internal/e2e":          {tests: []string{"internal/frame", "internal/store", "internal/writebehind"}, others: []string{xxhash}},
		"internal/e2e/memory":   {tests: []string{"internal/coherence", "internal/frame", "internal/hook", "internal/invalidation", "internal/local", "internal/logicalclock", "internal/message", "internal/retryqueue", "internal/store"}},
		"internal/servermatrix": {},
		"internal/sim":          {tests: []string{"internal/coherence", "internal/frame", "internal/hook", "internal/invalidation", "internal/logicalclock", "internal/message", "internal/store"}},
		"internal/interop":      {tests: []string{"internal/frame", "internal/keys", "internal/logicalclock", "internal/message", "internal/store"}, others: []string{xxhash}},

		// Programs as a user would write them: nothing from internal.
		"examples/...": {
			module: []string{".", "codec", "strategy", "invalidate", "metrics", "metrics/expvar"},
			others: []string{goRedis, miniRedis},
		},
	},
	public:     []string{".", "codec", "strategy", "invalidate", "metrics", "metrics/expvar"},
	testOthers: []string{goRedis, miniRedis, goleak},
	restricted: map[string]restriction{
		"unsafe":  {reason: "the library's memory safety must not rest on anybody's care"},
		"C":       {reason: "the library builds for every platform without a C compiler"},
		"testing": {reason: "a program that uses the library must not link it", tests: true},
	},
}

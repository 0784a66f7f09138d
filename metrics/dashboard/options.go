package dashboard

import (
	"log/slog"
	"net/http"
	"time"
)

// Option configures a [Handler]. The last one of a kind holds; nil is ignored.
type Option func(*Handler)

// Title is the headline of the page: which process this is. The default is the
// name of the program and that of the machine.
func Title(text string) Option { return func(h *Handler) { h.title = text } }

// Interval is the time from one sample to the next; by default, and if d is not
// positive, a second. 300 samples are kept. Below 50 ms it is 50 ms.
func Interval(d time.Duration) Option {
	return func(h *Handler) {
		if d <= 0 {
			d = time.Second
		}
		h.interval = max(d, 50*time.Millisecond)
	}
}

// Actions allows the requests for which authorize returns nil to inspect a key, invalidate a
// key, a pattern or a tag, and clear a cache. Without it, or with nil, there are no actions.
//
// authorize is called for every request for an action, and to decide whether the page offers
// actions. The text of its error is logged, and not shown. It decides by what a browser sends
// along, such as a cookie, HTTP authentication or a client certificate, or by what a proxy has
// added:
//
//	dashboard.Actions(func(r *http.Request) error {
//	    if !session.From(r).IsAdmin() {
//	        return errors.New("not an admin")
//	    }
//	    return nil
//	})
//
// An authorize that accepts every client on this machine, or in this network, has to check
// r.Host as well: another site's name can be made to resolve to this server, and then its pages
// are of the same origin.
//
// A request must also come from the page itself. It is a POST of JSON, which a page of another
// origin can't send without a preflight request; it is refused if the browser marks it as from
// another origin (see [http.CrossOriginProtection]); and it has to carry a token that can be
// read only from the page, for browsers too old to send the origin.
//
// Keys are given as they are encoded in Redis, behind prefix and name. Each action is
// logged, without the key.
func Actions(authorize func(*http.Request) error) Option {
	return func(h *Handler) { h.authorize = authorize }
}

// ShowValues lets the inspection of a key show its value, as JSON where it can be
// written so, and of a long one the beginning. By default the type is shown only.
func ShowValues() Option { return func(h *Handler) { h.values = true } }

// ShowKeys shows the keys that are read most, as they are encoded in Redis. By default only
// their counts are shown, from which it can be seen how unequal they are: keys may be private,
// as an e-mail address is.
func ShowKeys() Option { return func(h *Handler) { h.keys = true } }

// Logger logs actions, and those refused. The default is slog.Default().
func Logger(l *slog.Logger) Option {
	return func(h *Handler) {
		if l != nil {
			h.log = l
		}
	}
}

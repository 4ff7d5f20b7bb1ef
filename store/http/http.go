// Package http reads named files from web servers, whole or in ranges, and writes
// them to those that take a PUT: chunks, indexes and what lies beside them.
//
// A [Web] is one folder of a server. It asks once per call: retries, priorities
// and the number of requests in flight are store/fetch's job, so what a Web
// returns says which errors are worth another try (see [store.Blobs]). An
// answer is believed only as far as it fits what was asked: lengths, ranges and
// encodings are checked, and neither silence nor a trickle holds a caller
// longer than [Options].Stall. Whether a server takes files shows when it is given
// one: every Web is a [store.Putter], and one whose server is for reading only says
// at the first Put what that has answered, and what to do.
//
//	web, err := http.New("https://example.com/images/default.castr", http.Options{})
//	body, info, err := web.Open(ctx, "1a2b/1a2b….cacnk", store.Range{})
package http

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	nethttp "net/http"
	"net/url"
	"strings"
	"time"

	"caravel/internal/redact"
	"caravel/store"
)

// Options tunes a Web. The zero value is a good choice.
type Options struct {
	Client *nethttp.Client // nil: one of NewClient's; share one to share its connections. Only its Transport is used
	Header nethttp.Header  // sent with every request, but not to another host after a redirect
	TLS    *tls.Config     // nil: the system's; its certificates are not shown to another host either. Not used with Client

	// Authorization, if set, is asked before each request for that header's value,
	// which goes where Header goes. A user in the URL comes before it.
	Authorization func() (string, error)

	UserAgent string        // "": caravel
	Stall     time.Duration // longest wait for an answer, and for each further KiB of it; 0: 30 s
	Connect   time.Duration // longest wait for a connection, and for TLS on it; 0: 10 s; not used with Client
	Idle      time.Duration // how long a connection without work is kept; 0: 90 s; not used with Client
}

// A Web is a folder of a web server. Its methods may be called from many
// goroutines.
type Web struct {
	base    url.URL // Path and RawPath without a slash at the end, no User
	shown   string  // base for people
	plain   bool    // nothing in the path of base is escaped
	object  typedName
	request *nethttp.Request // what all requests are made of
	conns   nethttp.RoundTripper
	others  nethttp.RoundTripper // to other hosts, after a redirect
	opt     Options
}

var (
	_ store.Blobs     = (*Web)(nil)
	_ store.Statter   = (*Web)(nil)
	_ store.Refresher = (*Web)(nil)
	_ store.Locator   = (*Web)(nil)
	_ store.Putter    = (*Web)(nil)
	_ store.Deleter   = (*Web)(nil)
)

// New makes a Web of the folder at an http or https URL. A user and password in
// the URL are sent as basic authentication, a query is sent with every request;
// neither is ever shown.
func New(base string, opt Options) (*Web, error) {
	u, err := parse(base)
	if err != nil {
		return nil, err
	}
	w := &Web{base: *u, opt: opt}
	w.base.User = nil
	w.base.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20") // it goes into a line of words
	if err := w.setFolder(u.EscapedPath()); err != nil {
		return nil, err
	}
	w.opt.Header = nethttp.Header{}
	for key, values := range opt.Header { // whose keys may be written anyhow
		for _, value := range values {
			w.opt.Header.Add(key, value)
		}
	}
	w.request = &nethttp.Request{Method: nethttp.MethodGet, Host: u.Host, Header: w.opt.Header.Clone()}
	w.request.Header.Set("User-Agent", cmp.Or(opt.UserAgent, "caravel"))
	w.request.Header.Set("Accept-Encoding", "identity")
	if u.User != nil {
		password, _ := u.User.Password()
		w.request.SetBasicAuth(u.User.Username(), password)
		w.opt.Authorization = nil
	}
	w.opt.Stall = cmp.Or(opt.Stall, 30*time.Second)
	if opt.Client == nil {
		opt.Client = NewClient(opt)
	}
	w.conns = cmp.Or(opt.Client.Transport, nethttp.DefaultTransport)
	w.others = Others(w.conns)
	return w, nil
}

// Object makes a Web of the folder in which the file at a URL lies, and returns
// the file's name there. The file, and any whose name begins with its name, is
// asked for with the URL's own escapes.
func Object(location string, opt Options) (w *Web, name string, err error) {
	w, err = New(location, opt)
	if err != nil {
		return nil, "", err
	}
	u, err := parse(location)
	if err != nil {
		return nil, "", err
	}
	path := u.EscapedPath()
	slash := strings.LastIndexByte(path, '/')
	escaped := path[slash+1:]
	if escaped == "" {
		return nil, "", fmt.Errorf("%s: names a folder, not a file", redact.URL(location))
	}
	if name, err = url.PathUnescape(escaped); err != nil {
		return nil, "", fmt.Errorf("%s: %w", redact.URL(location), err)
	}
	w.object = typedName{name, escaped}
	return w, name, w.setFolder(path[:slash])
}

// String is the folder's URL without secrets.
func (w *Web) String() string { return w.shown }

// Locate is the URL of an object, without secrets.
func (w *Web) Locate(name string) string {
	if plain(name) && w.object == (typedName{}) {
		return w.shown + "/" + name
	}
	return show(w.url(name))
}

// A typedName is the name of an object and how somebody escaped it in a URL;
// servers may tell + from %2B, so it is sent as it came.
type typedName struct{ name, escaped string }

// url is the URL of an object, with the query.
func (w *Web) url(name string) *url.URL {
	u := w.base
	u.Path += "/" + name
	if w.plain && plain(name) && w.object == (typedName{}) {
		u.RawPath = "" // which is found to be of no use, with effort
		return &u
	}
	escaped := w.base.EscapedPath() + "/"
	rest := name
	if tail, ok := strings.CutPrefix(name, w.object.name); ok {
		escaped += w.object.escaped
		rest = tail
	}
	u.RawPath = escaped + (&url.URL{Path: rest}).EscapedPath()
	return &u
}

// plain reports whether a path is written in a URL as it is, by everybody.
func plain(path string) bool {
	for i := range len(path) {
		c := path[i]
		if (c < 'a' || c > 'z') && (c < '-' || c > '9') && (c < 'A' || c > 'Z') && c != '_' {
			return false // - . / and digits follow each other
		}
	}
	return true
}

func (w *Web) setFolder(escaped string) error {
	escaped = strings.TrimRight(escaped, "/")
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return fmt.Errorf("%s: %w", show(&w.base), err)
	}
	w.base.Path, w.base.RawPath = path, escaped
	w.shown, w.plain = show(&w.base), plain(escaped)
	return nil
}

// parse takes an http or https URL apart.
func parse(location string) (*url.URL, error) {
	u, err := url.Parse(location)
	switch escape := url.EscapeError(""); {
	case errors.As(err, &escape):
		return nil, fmt.Errorf("%s: a %% in a URL is written %%25", redact.URL(location))
	case err != nil: // its text may show the password
		return nil, fmt.Errorf("%s: malformed URL", redact.URL(location))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%s: not an http or https URL", redact.URL(location))
	case u.Hostname() == "":
		return nil, fmt.Errorf("%s: names no host", redact.URL(location))
	case u.Fragment != "":
		return nil, fmt.Errorf("%s: a # in a URL is written %%23", redact.URL(location))
	}
	return u, nil
}

// show is a URL as people see it.
func show(u *url.URL) string {
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

// checkName keeps out what would leave the folder.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%q is no name in a folder", name)
	}
	return nil
}

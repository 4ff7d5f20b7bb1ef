// Package access makes of what the configuration says of a place what it is opened
// with: connections with the right certificates, credentials, limits, and how often
// and how patiently it is asked.
//
//	a, err := access.New(configuration, access.Options{Flags: flags})
//	opt := open.Options{Adjust: a.Adjust}
//	s, err := open.Store("https://example.com/default.castr", opt)
//
// Places that are reached with the same certificates share their connections; those of
// one host share its limit of requests, and all share the rates of the process.
package access

import (
	"encoding/base64"
	"errors"
	"log/slog"
	nethttp "net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"caravel/config"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/http"
	"caravel/store/limit"
	"caravel/store/open"
)

// Options tune an Access. The zero value is a good choice.
type Options struct {
	Flags config.Settings // count everywhere, before those of the configuration; Rates are those of the process
	Netrc config.Netrc    // who logs in where nothing else lets us in
	Packs bool            // the form of chunks was said: the configuration does not make them plain
	Log   *slog.Logger    // gets what is not done as configured; nil: discard
}

// An Access knows how places are reached. Its methods may be called from many
// goroutines.
type Access struct {
	config config.Config
	opt    Options
	whole  limit.Limits // of the process

	mu      sync.Mutex // guards what follows
	clients map[certificates]client
	tokens  map[string]*config.Token // by file
	buckets map[rates]limit.Limits   // by location
	hosts   map[string]*limit.Slots
	warned  map[string]bool // of what, by location
}

// New makes an Access.
func New(c config.Config, opt Options) (*Access, error) {
	if err := opt.Flags.Check(); err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	process := c.Rates
	flags := config.Settings{Rates: opt.Flags.Rates}
	process = flags.Over(config.Settings{Rates: process}).Rates
	opt.Flags.Rates = config.Rates{}
	return &Access{
		config:  c,
		opt:     opt,
		whole:   bucketsOf(process),
		clients: map[certificates]client{},
		tokens:  map[string]*config.Token{},
		buckets: map[rates]limit.Limits{},
		hosts:   map[string]*limit.Slots{},
		warned:  map[string]bool{},
	}, nil
}

// Adjust is for open.Options: how one place is reached.
func (a *Access) Adjust(at open.Place, opt open.Options) (open.Options, error) {
	s, err := a.settings(at)
	if err != nil {
		return opt, err
	}
	if s.SkipVerify && !at.File {
		a.warn("chunks are verified all the same: skip-verify is for servers that pass them on", at.Location)
	}
	if s.Uncompressed && !a.opt.Packs {
		opt.Form.Compression, opt.Form.Level = store.None, 0
	}
	if s.Encryption {
		if opt.Form.Key, err = keyOf(s); err != nil {
			return opt, err
		}
	}
	if s.ErrorRetry != nil {
		opt.Tries = max(*s.ErrorRetry, 1)
	}
	opt.Pause = time.Duration(s.RetryBase)
	if s.S3 != nil {
		opt.S3 = open.S3(*s.S3)
	}
	if s.OCI != nil {
		opt.Registry = open.Login{User: s.OCI.Username, Password: s.OCI.Secret}
	}
	opt.Limits = opt.Limits.With(a.limits(at.Location, s))
	return opt, a.adjustHTTP(&opt.HTTP, at.Location, s)
}

// keyOf is the key that chunks are encrypted with.
func keyOf(s config.Settings) (*store.Key, error) {
	if s.EncryptionKey == "" {
		return nil, errors.New("encryption: no encryption-key is configured, and $DESYNC_ENCRYPTION_KEY is not set")
	}
	cipher := store.XChaCha20Poly1305
	if s.EncryptionAlgorithm != "" {
		var err error
		if cipher, err = store.ParseCipher(s.EncryptionAlgorithm); err != nil {
			return nil, err
		}
	}
	return store.ParseKey(cipher, s.EncryptionKey)
}

// Fetch is how a store at a location is asked for chunks, made of how all are.
func (a *Access) Fetch(location string, opt fetch.Options) (fetch.Options, error) {
	s, err := a.settings(open.Place{Location: location})
	if err != nil {
		return opt, err
	}
	if s.N > 0 {
		opt.MaxWindow = s.N
		opt.MinWindow = min(opt.MinWindow, s.N)
	}
	if s.ErrorRetry != nil {
		opt.Tries = max(*s.ErrorRetry, 1)
	}
	if s.RetryBase > 0 {
		opt.Rest = time.Duration(s.RetryBase)
	}
	switch {
	case s.Timeout < 0:
		opt.Try = -1
	case s.Timeout > 0:
		opt.Try = time.Duration(s.Timeout)
	}
	return opt, nil
}

// settings are what counts for a place.
func (a *Access) settings(at open.Place) (config.Settings, error) {
	of := a.config.For
	if at.File {
		of = a.config.ForFile
	}
	s, err := of(at.Location)
	if err != nil {
		return s, err
	}
	return a.opt.Flags.Over(s), nil
}

// warn says something of a location once.
func (a *Access) warn(what, location string) {
	a.mu.Lock()
	said := a.warned[what+location]
	a.warned[what+location] = true
	a.mu.Unlock()
	if !said {
		a.opt.Log.Warn(what, "store", redact.URL(location))
	}
}

// adjustHTTP sets what concerns a web server.
func (a *Access) adjustHTTP(to *http.Options, location string, s config.Settings) error {
	c, err := a.client(s)
	if err != nil {
		return err
	}
	to.Client, to.TLS = c.http, c.tls
	switch limit := time.Duration(s.Timeout); {
	case s.Stall > 0:
		to.Stall = time.Duration(s.Stall)
	case limit > 0 && (to.Stall == 0 || to.Stall > limit): // nothing is a part of too little
		to.Stall = limit
	}
	to.Header = to.Header.Clone()
	if to.Header == nil {
		to.Header = nethttp.Header{}
	}
	for name, value := range s.Headers {
		to.Header.Set(name, value)
	}
	if s.HTTPCookie != "" {
		to.Header.Set("Cookie", s.HTTPCookie)
	}
	switch {
	case s.HTTPAuth != "":
		to.Header.Set("Authorization", s.HTTPAuth)
	case s.TokenFile != "":
		token, err := a.token(s.TokenFile)
		if err != nil {
			return err
		}
		to.Authorization = token.Header
	case to.Header.Get("Authorization") == "":
		if basic := a.basic(location); basic != "" {
			to.Header.Set("Authorization", basic)
		}
	}
	return nil
}

// basic is how .netrc logs in at a web server; "": it does not.
func (a *Access) basic(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	login, password, ok := a.opt.Netrc.Find(u.Hostname())
	if !ok {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(login+":"+password))
}

// token is the token in a file.
func (a *Access) token(path string) (*config.Token, error) {
	a.mu.Lock()
	t := a.tokens[path]
	a.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := config.NewToken(path)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[path] = t
	return t, nil
}

// rates are those of a location.
type rates struct {
	location string
	config.Rates
}

// limits are those for a location: its own, its host's and the process's.
func (a *Access) limits(location string, s config.Settings) limit.Limits {
	l := a.whole
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.Rates != (config.Rates{}) {
		key := rates{location, s.Rates}
		own, ok := a.buckets[key]
		if !ok {
			own = bucketsOf(s.Rates)
			a.buckets[key] = own
		}
		l = l.With(own)
	}
	if s.HostRequests > 0 {
		host := hostOf(location)
		if a.hosts[host] == nil {
			a.hosts[host] = limit.NewSlots(s.HostRequests)
		}
		l.Requests = a.hosts[host]
	}
	return l
}

// bucketsOf are what holds to rates.
func bucketsOf(r config.Rates) (l limit.Limits) {
	down, up := r.Each, r.Each
	if r.Down > 0 {
		down = r.Down
	}
	if r.Up > 0 {
		up = r.Up
	}
	if down > 0 {
		l.Down = []*limit.Bucket{limit.NewBucket(int64(down))}
	}
	if up > 0 {
		l.Up = []*limit.Bucket{limit.NewBucket(int64(up))}
	}
	return l
}

// hostOf is the host of a location, with its port; of one that is no URL, that before
// the colon.
func hostOf(location string) string {
	if _, rest, ok := strings.Cut(location, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		return host[strings.LastIndexByte(host, '@')+1:]
	}
	host, _, _ := strings.Cut(location, ":")
	return host[strings.LastIndexByte(host, '@')+1:]
}

package main

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/config"
	"caravel/store"
	"caravel/store/access"
	"caravel/store/open"
)

// reachOptions say how stores, and whatever else lies behind a network, are reached.
type reachOptions struct {
	config  string          // the file; "": the usual one
	flags   config.Settings // what flags say
	headers []string        // NAME: VALUE
}

// reachFlags are for commands that open a location.
func reachFlags(opt *reachOptions) []cli.Flag {
	return append(placeFlags(opt), cacheRepairFlag())
}

// cacheRepairFlag is desync's: a damaged chunk in a cache is always fetched again, and
// nothing else can be wanted.
func cacheRepairFlag() cli.Flag {
	f := newSwitch("cache-repair", "fetch a damaged chunk of a cache again, as is always done", new(bool), "r")
	f.Hidden = true
	return f
}

// placeFlags are for one of which -r is something else.
func placeFlags(opt *reachOptions) []cli.Flag {
	s := &opt.flags
	return append([]cli.Flag{
		configFlag(&opt.config),
		newSwitch("trust-insecure", "trust any certificate that a server shows", &s.TrustInsecure, "t"),
		&cli.StringFlag{Name: "ca-cert", Usage: "trust servers whose certificates those in `FILE` (PEM) vouch for, and no others", Destination: &s.CACert},
		&cli.StringFlag{Name: "client-cert", Usage: "show the certificate in `FILE` (PEM) to servers; needs --client-key", Destination: &s.ClientCert},
		&cli.StringFlag{Name: "client-key", Usage: "have the key of --client-cert in `FILE` (PEM)", Destination: &s.ClientKey},
		newList("header", "send `NAME: VALUE` with each request to a web server; may be repeated", &opt.headers),
		&cli.StringFlag{Name: "http-auth", Usage: "send `VALUE` as the Authorization header: Basic …, Bearer …; others on this machine see it: --config can hold it, too", Destination: &s.HTTPAuth},
		&cli.StringFlag{Name: "http-cookie", Usage: "send `VALUE` as the Cookie header", Destination: &s.HTTPCookie},
		&cli.StringFlag{Name: "token-file", Usage: "send the token in `FILE` as Authorization: Bearer; it may be renewed there meanwhile", Destination: &s.TokenFile},
	}, patienceFlags(s)...)
}

// patienceFlags say how often, how long and how fast.
func patienceFlags(s *config.Settings) []cli.Flag {
	return []cli.Flag{
		&cli.GenericFlag{Name: "error-retry", Aliases: []string{"e"}, Usage: "ask a store `N` times for a thing at most", DefaultText: "as often as --timeout allows", Value: triesValue(&s.ErrorRetry)},
		&cli.GenericFlag{Name: "error-retry-base-interval", Aliases: []string{"b"}, Usage: "wait `TIME` before the second try, and twice as long after each", DefaultText: "20ms", Value: pauseValue(&s.RetryBase)},
		&cli.GenericFlag{Name: "request-timeout", Usage: "try again a request for a chunk that takes longer than `TIME`, allowing twice as long each time; 0: never", DefaultText: "30s", Value: requestTimeValue(&s.Timeout)},
		&cli.GenericFlag{Name: "stall-timeout", Usage: "give up a request when nothing comes for `TIME`", DefaultText: "30s", Value: pauseValue(&s.Stall)},
		&cli.GenericFlag{Name: "host-requests", Usage: "have no more than `N` requests at a time to one host", Value: workersValue(&s.HostRequests)},
		&cli.GenericFlag{Name: "rate-limit-bps", Usage: "receive, and send, no more than `SIZE` bytes a second in all", Value: rateValue(&s.Each)},
		&cli.GenericFlag{Name: "rate-limit-up-bps", Usage: "send no more than `SIZE` bytes a second in all", Value: rateValue(&s.Up)},
		&cli.GenericFlag{Name: "rate-limit-down-bps", Usage: "receive no more than `SIZE` bytes a second in all", Value: rateValue(&s.Down)},
	}
}

func configFlag(to *string) cli.Flag {
	place, err := config.Place()
	if err != nil {
		place = ""
	}
	return &cli.StringFlag{
		Name:        "config",
		Usage:       "read how stores are reached from `FILE`; none: from nowhere",
		DefaultText: cmp.Or(place, config.None),
		EnvVars:     []string{"CARAVEL_CONFIG"},
		Destination: to,
	}
}

// access makes of the flags and the configuration what knows how places are reached.
func (o reachOptions) access(log *slog.Logger, opt access.Options) (*access.Access, error) {
	c, err := config.Load(o.config)
	if err != nil {
		return nil, err
	}
	if opt.Netrc, err = config.LoadNetrc(); err != nil {
		return nil, err
	}
	flags := o.flags
	if flags.Headers, err = parseHeaders(o.headers); err != nil {
		return nil, err
	}
	if err := flags.Check(); err != nil {
		return nil, usagef("--%v", err) // its keys are named as the flags are
	}
	opt.Flags = flags.Over(opt.Flags)
	opt.Log = log
	return access.New(c, opt)
}

// parseHeaders shows no value: it may be a secret.
func parseHeaders(lines []string) (map[string]string, error) {
	headers := map[string]string{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, usagef("--header: want NAME: VALUE")
		}
		headers[textproto.CanonicalMIMEHeaderKey(name)] = strings.TrimSpace(value)
	}
	return headers, nil
}

// formHere is a form of chunks with what the environment says of their names.
func formHere(f store.Form) (store.Form, error) {
	f.Suffix = os.Getenv("CASYNC_COMPRESSED_CHUNK_SUFFIX")
	if strings.ContainsAny(f.Suffix, "/\\\x00") {
		return f, errors.New("CASYNC_COMPRESSED_CHUNK_SUFFIX: holds a slash")
	}
	return f, nil
}

// where is how make opens what it reads and writes to.
func (o makeOptions) where(stdin io.Reader, log *slog.Logger) (open.Options, error) {
	reach, err := o.reach.access(log, access.Options{Packs: o.formSaid})
	if err != nil {
		return open.Options{}, err
	}
	form, err := formHere(o.form)
	where := writeOptions(o.timeout, log)
	where.Form, where.Adjust, where.Stdin = form, reach.Adjust, stdin
	return where, err
}

// triesValue is a number of tries; the variable stays nil without the flag.
func triesValue(to **int) cli.Generic {
	parse := func(s string) (*int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, errors.New("want a number of tries")
		}
		return &n, nil
	}
	show := func(n *int) string {
		if n == nil {
			return ""
		}
		return strconv.Itoa(*n)
	}
	return &value[*int]{to, parse, show}
}

// pauseValue is a time that may be left unsaid.
func pauseValue(to *config.Duration) cli.Generic {
	parse := func(s string) (config.Duration, error) {
		d, err := parseDuration(s)
		return config.Duration(d), err
	}
	return &value[config.Duration]{to, parse, showSaid}
}

// requestTimeValue is a time, of which 0 is for ever: -1 here, for 0 is unsaid.
func requestTimeValue(to *config.Duration) cli.Generic {
	parse := func(s string) (config.Duration, error) {
		d, err := parseDuration(s)
		return config.Duration(forEver(d)), err
	}
	return &value[config.Duration]{to, parse, showSaid}
}

func showSaid(d config.Duration) string {
	if d == 0 {
		return ""
	}
	return showDuration(time.Duration(d))
}

// rateValue is a number of bytes a second.
func rateValue(to *config.Bytes) cli.Generic {
	parse := func(s string) (config.Bytes, error) {
		n, err := chunker.ParseSize(s)
		if err == nil && n == 0 {
			err = errors.New("want more than 0")
		}
		return config.Bytes(n), err
	}
	return &value[config.Bytes]{to, parse, func(b config.Bytes) string { return showSize(int64(b)) }}
}

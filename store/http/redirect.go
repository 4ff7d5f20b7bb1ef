package http

import (
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
)

// ask sends a request, and those that redirects lead to. A nethttp.Client does
// that too, with half as many allocations again for each chunk.
func (w *Web) ask(req *nethttp.Request) (*nethttp.Response, error) {
	for hops := 0; ; hops++ {
		conns := w.conns
		if req.URL.Host != w.base.Host {
			conns = w.others
		}
		resp, err := conns.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		to := target(resp)
		if to == "" {
			return resp, nil
		}
		const little = 2 << 10
		io.CopyN(io.Discard, resp.Body, little) // only the connection is at stake
		resp.Body.Close()
		if req, err = w.redirect(req, resp.StatusCode, to, hops); err != nil {
			return nil, err
		}
	}
}

// target is where an answer sends us to; "": nowhere.
func target(resp *nethttp.Response) string {
	switch resp.StatusCode {
	case nethttp.StatusMovedPermanently, nethttp.StatusFound, nethttp.StatusSeeOther,
		nethttp.StatusTemporaryRedirect, nethttp.StatusPermanentRedirect:
		return resp.Header.Get("Location")
	}
	return ""
}

// redirect is the request that follows a redirect, if that may be followed.
func (w *Web) redirect(from *nethttp.Request, status int, location string, hops int) (*nethttp.Request, error) {
	to, err := from.URL.Parse(location)
	switch {
	case err != nil: // its text may show a secret
		return nil, &refusal{"redirect to a malformed URL"}
	case hops >= 10:
		return nil, &refusal{"more than 10 redirects, the last one to " + show(to)}
	case to.Scheme != "https" && (to.Scheme != "http" || from.URL.Scheme == "https"):
		return nil, &refusal{fmt.Sprintf("redirect from %s to %s://%s", from.URL.Scheme, to.Scheme, to.Host)}
	case to.Host == "":
		return nil, &refusal{"redirect to a URL without a host"}
	case writes(from) && status != nethttp.StatusTemporaryRedirect && status != nethttp.StatusPermanentRedirect:
		return nil, &refusal{fmt.Sprintf("%d redirects those who read to %s; if that is where to write, name it", status, show(to))}
	case from.Body != nil && from.GetBody == nil:
		return nil, &refusal{fmt.Sprintf("redirect to %s, and what was sent cannot be sent twice; name that URL", show(to))}
	}
	req := from.WithContext(from.Context())
	if from.GetBody != nil {
		if req.Body, err = from.GetBody(); err != nil {
			return nil, err
		}
	}
	req.URL, req.Host = bare(to), to.Host
	if to.Host != w.base.Host {
		req.Header = req.Header.Clone()
		req.Header.Del("Authorization")
		for key := range w.opt.Header {
			req.Header.Del(key)
		}
	}
	return req, nil
}

// writes reports whether a request changes something.
func writes(req *nethttp.Request) bool {
	return req.Method != nethttp.MethodGet && req.Method != nethttp.MethodHead
}

// bare is a URL without what is not sent.
func bare(u *url.URL) *url.URL {
	b := *u
	b.User, b.Fragment, b.RawFragment = nil, "", ""
	return &b
}

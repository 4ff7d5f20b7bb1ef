package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"caravel/store"
)

// How long what is sent may be kept.
const (
	forEver        = "public, max-age=31536000, immutable"
	forEverPrivate = "private, max-age=31536000, immutable" // by who was let in
	askAgain       = "no-cache"
	never          = "no-store"
)

// octets is the type of all that is not for people; it is never changed.
var octets = []string{"application/octet-stream"}

// A content is what is sent.
type content struct {
	io.ReadSeeker
	size  int64
	time  time.Time // zero: not known
	tag   string    // as it stands in an answer; "": none
	cache string    // how long it may be kept
}

// send answers with a content, or with what of it was asked for.
func send(w http.ResponseWriter, r *http.Request, c content) {
	h := w.Header()
	h["Content-Type"] = octets
	h["Cache-Control"] = []string{c.cache}
	if c.tag != "" {
		h["Etag"] = []string{c.tag}
	}
	if conditional(r.Header) {
		http.ServeContent(w, r, "", c.time, c)
		return
	}
	h["Accept-Ranges"] = []string{"bytes"}
	if !c.time.IsZero() {
		h["Last-Modified"] = []string{c.time.UTC().Format(http.TimeFormat)}
	}
	c.write(w, r.Method)
}

// sendWhole answers GET with a content that cannot be had in pieces.
func sendWhole(w http.ResponseWriter, c content) {
	h := w.Header()
	h["Content-Type"] = octets
	h["Cache-Control"] = []string{c.cache}
	c.write(w, http.MethodGet)
}

// write does what ServeContent would do, too, after looking for where the end is.
func (c content) write(w http.ResponseWriter, method string) {
	w.Header()["Content-Length"] = []string{strconv.FormatInt(c.size, 10)}
	w.WriteHeader(http.StatusOK)
	if method == http.MethodHead {
		return
	}
	var from io.Reader = c.ReadSeeker
	if n, err := io.Copy(w, &io.LimitedReader{R: from, N: c.size}); err == nil && n < c.size {
		panic(http.ErrAbortHandler) // it has become shorter: nobody is to take it for whole
	}
}

// conditional reports whether a request is for a range, or asks whether something has
// changed.
func conditional(h http.Header) bool {
	for _, name := range []string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// fileTag tells versions of a file apart.
func fileTag(t time.Time, size int64) string {
	b := append(make([]byte, 0, 40), '"')
	b = strconv.AppendInt(b, t.UnixNano(), 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, size, 36)
	return string(append(b, '"'))
}

// refuse answers with an error, which no cache shall keep.
func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", never)
	http.Error(w, text, status)
}

// allow answers requests of other methods than those that there are.
func allow(w http.ResponseWriter, methods string) {
	w.Header().Set("Allow", methods)
	refuse(w, http.StatusMethodNotAllowed, "only "+methods)
}

// failed answers for a store that has not given what was asked for. What it says is
// for the log: there may be places in it that are nobody's business.
func (o outcome) failed(w http.ResponseWriter, r *http.Request, err error) {
	var busy *store.BusyError
	switch {
	case r.Context().Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, r.Context().Err())):
		panic(http.ErrAbortHandler) // nobody listens
	case errors.Is(err, store.ErrMissing):
		refuse(w, http.StatusNotFound, o.missing)
		return
	case errors.As(err, &busy):
		w.Header().Set("Retry-After", strconv.Itoa(max(int(busy.After.Seconds()), 1)))
		refuse(w, http.StatusServiceUnavailable, "the store is busy")
	default:
		refuse(w, http.StatusInternalServerError, "the store has failed; the server's log says how")
	}
	if o.said.First(err.Error()) {
		o.log.Warn("request failed", "path", r.URL.Path, "err", err)
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// IndexOptions tunes a handler of indexes. The zero value is a good choice.
type IndexOptions struct {
	Writable bool            // clients may bring indexes; the backend is a store.Putter
	Digest   *chunker.Digest // the only algorithm that an index may be of; nil: any
	NoSync   bool            // a client is told before its index is on disk
	Private  bool            // no cache for many may keep what is sent
	Log      *slog.Logger    // nil: discard
}

// What an index may have at most, of which a client's word is no proof: that of 4 TiB
// in chunks of the usual size. And a file beside it.
const (
	indexLimit = 1 << 31
	sideLimit  = 1 << 28
)

// sides are how the files beside indexes end and begin.
var sides = []struct{ ending, head string }{
	{".tree", "caravel sidecar\n"},
	{".profile", "caravel profile\n"},
}

// indexes serves indexes.
type indexes struct {
	blobs   store.Blobs
	opt     IndexOptions
	cache   string
	outcome outcome
	putter  store.Putter
	puts    *semaphore.Weighted // indexes that are on their way in
}

// NewIndexes serves the indexes of a backend, by their names there, also in folders:
// /a/x.caibx is not /b/x.caibx, as it is with desync. What is no index, nor a sidecar
// or a profile beside one, is not served, and not taken.
func NewIndexes(b store.Blobs, opt IndexOptions) (http.Handler, error) {
	h := &indexes{blobs: b, opt: opt, cache: askAgain, outcome: newOutcome("no such index", opt.Log), puts: semaphore.NewWeighted(4)}
	if opt.Private {
		h.cache = "private, " + askAgain
	}
	var ok bool
	if h.putter, ok = b.(store.Putter); opt.Writable && !ok {
		return nil, fmt.Errorf("server: %v: can only be read: %w", b, store.ErrRefused)
	}
	return h, nil
}

func (h *indexes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPut {
		allow(w, "GET, HEAD, PUT")
		return
	}
	name, err := indexName(r.URL.Path)
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
	case r.Method == http.MethodPut:
		h.put(w, r, name)
	default:
		h.get(w, r, name)
	}
}

// indexName is the index that a path names.
func indexName(p string) (string, error) {
	name := strings.TrimPrefix(p, "/")
	if !fs.ValidPath(name) || name == "." || len(name) > 1024 {
		return "", errors.New("want the name of an index")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part[0] == '.' || len(part) > 240 || strings.ContainsFunc(part, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' || c == ':' }) {
			return "", errors.New("an index's name does not begin with a dot, has no backslash, colon or control character, and at most 240 bytes")
		}
	}
	return name, nil
}

// begins reports whether a file of that name may begin with head.
func begins(name string, head []byte) bool {
	for _, s := range sides {
		if path.Ext(name) == s.ending {
			return strings.HasPrefix(string(head), s.head)
		}
	}
	return index.Begins(head)
}

// headBytes is how much of a file tells what it is.
const headBytes = 16

func (h *indexes) get(w http.ResponseWriter, r *http.Request, name string) {
	c, err := h.open(r.Context(), name)
	if err != nil {
		h.outcome.failed(w, r, err)
		return
	}
	defer c.Close()
	var head [headBytes]byte
	_, err = io.ReadFull(c, head[:])
	if err == nil {
		_, err = c.Seek(0, io.SeekStart)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), err == nil && !begins(name, head[:]):
		refuse(w, http.StatusNotFound, h.outcome.missing)
	case err != nil:
		h.outcome.failed(w, r, err)
	default:
		tag := ""
		if c.info.Tag != "" || !c.info.ModTime.IsZero() {
			tag = blobTag(c.info)
		}
		send(w, r, content{c, c.info.Size, c.info.ModTime, tag, h.cache})
	}
}

// put takes an index that a client brings. It is read to its end before it gets its
// name.
func (h *indexes) put(w http.ResponseWriter, r *http.Request, name string) {
	if !h.opt.Writable {
		refuse(w, http.StatusBadRequest, "nothing can be written here")
		return
	}
	limit := int64(indexLimit)
	for _, s := range sides {
		if path.Ext(name) == s.ending {
			limit = sideLimit
		}
	}
	if r.ContentLength > limit {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes", limit))
		return
	}
	if err := h.puts.Acquire(r.Context(), 1); err != nil {
		panic(http.ErrAbortHandler) // nobody listens
	}
	defer h.puts.Release(1)
	untimed := timed(w, r, limit)
	body := h.check(name, http.MaxBytesReader(w, r.Body, limit))
	err := h.putter.Put(r.Context(), name, body, r.ContentLength)
	body.end()
	if err == nil {
		untimed()
		if !h.opt.NoSync {
			err = h.putter.Sync(r.Context())
		}
	}
	var wrong *notIndex
	var long *http.MaxBytesError
	switch {
	case errors.As(body.failed, &long):
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes", limit))
	case errors.As(body.failed, &wrong):
		refuse(w, http.StatusUnsupportedMediaType, wrong.Error())
	case body.failed != nil:
		refuse(w, http.StatusBadRequest, "the index did not come whole")
	case err != nil:
		h.outcome.failed(w, r, err)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// A notIndex says why a body is none.
type notIndex struct{ error }

func (e *notIndex) Unwrap() error { return e.error }

// A checkedBody is a body that ends well only if it is an index.
type checkedBody struct {
	body    io.Reader
	parser  *io.PipeWriter
	verdict chan error // of who parses it; has room for it
	failed  error      // why it did not end well; nil: it did, or has not ended
}

// check begins to parse a body as it is read.
func (h *indexes) check(name string, body io.Reader) *checkedBody {
	r, w := io.Pipe()
	c := &checkedBody{body: body, parser: w, verdict: make(chan error, 1)}
	go func() {
		err := h.parse(name, r)
		if err != nil {
			err = &notIndex{err}
		}
		r.CloseWithError(err)
		c.verdict <- err
	}()
	return c
}

// parse reads an index, or what lies beside one, to its end.
func (h *indexes) parse(name string, r io.Reader) error {
	if ext := path.Ext(name); ext == sides[0].ending || ext == sides[1].ending {
		var head [headBytes]byte
		if _, err := io.ReadFull(r, head[:]); err != nil || !begins(name, head[:]) {
			return fmt.Errorf("not what goes with an index as %s", ext)
		}
		_, err := io.Copy(io.Discard, r)
		return err
	}
	x, err := index.Read(r, -1)
	if err != nil {
		return err
	}
	if want := h.opt.Digest; want != nil && x.Digest() != *want {
		return fmt.Errorf("an index of %v, not %v", x.Digest(), *want)
	}
	return nil
}

func (c *checkedBody) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	if _, wrong := c.parser.Write(p[:n]); wrong != nil {
		c.failed = wrong
		return n, wrong
	}
	if err == io.EOF {
		c.parser.Close()
		verdict := <-c.verdict
		c.verdict <- verdict // for end
		if verdict != nil {
			err = verdict
		}
	}
	if err != nil && err != io.EOF {
		c.failed = err
	}
	return n, err
}

// end has the parser end, if the body has not been read to its end.
func (c *checkedBody) end() {
	c.parser.CloseWithError(context.Canceled)
	<-c.verdict
}

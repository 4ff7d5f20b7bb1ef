package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/store"
)

// Files is a backend whose objects are files of this machine, as store/local's.
type Files interface {
	// File opens an object, to be closed by the caller; the error matches
	// store.ErrMissing if there is none.
	File(ctx context.Context, name string) (*os.File, store.Info, error)
}

// Descriptors are [Files] that open without package os.
type Descriptors interface {
	// Descriptor opens an object that is a file, to be closed by the caller.
	Descriptor(name string) (fd int, info store.Info, err error)
}

// ChunkOptions tunes a handler of chunks. The zero value is a good choice.
type ChunkOptions struct {
	Form   store.Form     // as clients name, get and bring chunks, also encrypted; a store may have others
	Digest chunker.Digest // the algorithm behind the names

	// Files are folders in which chunks lie in Form. What is in one of them is sent
	// as it lies, without a look into it; the store is asked for the others, and for
	// what is obviously no such chunk.
	Files []Files

	Writer  store.Writer // where a chunk goes that a client brings; nil: nowhere
	Trust   bool         // such a chunk is not compared with its name
	NoSync  bool         // the client is told before it is on disk
	Private bool         // no cache for many may keep what is sent
	Log     *slog.Logger // nil: discard
}

// chunks serves chunks.
type chunks struct {
	store   store.Store
	opt     ChunkOptions
	cache   string
	ending  string // of names, behind the ID
	outcome outcome
	bodies  *semaphore.Weighted // bytes of chunks that are on their way in
	unpacks *semaphore.Weighted // chunks that are unpacked
	commit  committer
}

// NewChunks serves the chunks of a store, each as /abcd/abcd…, with the ending of its
// form. If many ask for one at a time and it is to be fetched once, s has to see to
// that, as store/fetch does.
func NewChunks(s store.Store, opt ChunkOptions) http.Handler {
	h := &chunks{store: s, opt: opt, cache: forEver, outcome: newOutcome("no such chunk", opt.Log)}
	if opt.Private {
		h.cache = forEverPrivate
	}
	h.ending = opt.Form.Name(chunker.ID{})[len("abcd/")+64:]
	h.bodies = semaphore.NewWeighted(2 * int64(opt.Form.Limit(0)))
	h.unpacks = semaphore.NewWeighted(2 * int64(runtime.GOMAXPROCS(0)))
	if opt.Writer != nil {
		h.commit.sync = opt.Writer.Sync
	}
	return h
}

func (h *chunks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPut {
		allow(w, "GET, HEAD, PUT")
		return
	}
	id, err := h.id(r.URL.Path)
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
	case r.Method == http.MethodPut:
		h.put(w, r, id)
	case !h.sendFile(w, r, id):
		h.get(w, r, id)
	}
}

// id is the chunk that a path names.
func (h *chunks) id(p string) (chunker.ID, error) {
	const digits = 64
	base := path.Base(p)
	id, err := chunker.ParseID(base[:min(len(base), digits)])
	if err != nil {
		return id, errors.New("want /abcd/abcd…, a chunk by the 64 hexadecimal digits of its ID")
	}
	if name := "/" + h.opt.Form.Name(id); p != name {
		return id, fmt.Errorf("this chunk is %s here%s", name, h.hint(p))
	}
	return id, nil
}

// hint is for the client that expects chunks in another form.
func (h *chunks) hint(p string) string {
	packed := h.opt.Form.Compression != store.None
	switch {
	case h.opt.Form.Key != nil && !strings.HasSuffix(p, h.opt.Form.Key.String()):
		return ": chunks are served encrypted, with the key " + h.opt.Form.Key.String()
	case h.opt.Form.Key == nil && strings.Contains(strings.TrimSuffix(path.Base(p), ".cacnk"), "."):
		return ": chunks are served without encryption"
	case packed && !strings.Contains(path.Base(p), "."):
		return ": chunks are served compressed"
	case !packed && strings.HasSuffix(p, ".cacnk"):
		return ": chunks are served uncompressed"
	}
	return ""
}

// sendFile sends a chunk that lies in a folder in the form wanted.
func (h *chunks) sendFile(w http.ResponseWriter, r *http.Request, id chunker.ID) bool {
	name := h.opt.Form.Name(id)
	for _, folder := range h.opt.Files {
		f, info, err := folder.File(r.Context(), name)
		if err != nil {
			continue // the store says what is wrong with it
		}
		defer f.Close()
		if !h.plausible(f, info.Size) {
			return false
		}
		send(w, r, content{f, info.Size, info.ModTime, h.fileTag(id.String(), info), h.cache})
		return true
	}
	return false
}

// plausible reports whether a file can be a chunk in the form wanted: any reader
// takes zstd, but not what else casync may have written under the same name.
func (h *chunks) plausible(f *os.File, size int64) bool {
	var head [4]byte
	n, _ := f.ReadAt(head[:], 0) // too little tells as much
	return h.fits(size) && h.begins(head[:n])
}

// fits reports whether a chunk's file can have a size.
func (h *chunks) fits(size int64) bool { return size > 0 && size <= int64(h.opt.Form.Limit(0)) }

// begins reports whether a chunk's file can begin with head, of at least four bytes if
// it has as many.
func (h *chunks) begins(head []byte) bool {
	if h.opt.Form.Compression == store.None || h.opt.Form.Key != nil {
		return true
	}
	return len(head) >= 4 && h.opt.Form.Begins(head[:4])
}

// get sends a chunk of the store, packed as it is wanted.
func (h *chunks) get(w http.ResponseWriter, r *http.Request, id chunker.ID) {
	want := store.Want{ID: id, Digest: h.opt.Digest}
	if r.Method == http.MethodHead {
		found, err := h.store.Has(r.Context(), want)
		if err == nil && !found {
			err = store.ErrMissing
		}
		if err != nil {
			h.outcome.failed(w, r, err)
			return
		}
		w.Header()["Content-Type"] = octets
		w.Header().Set("Cache-Control", h.cache)
		w.WriteHeader(http.StatusOK)
		return
	}
	c, err := h.store.Get(r.Context(), want)
	if err != nil {
		h.outcome.failed(w, r, err)
		return
	}
	defer c.Release()
	sent := false
	err = c.Stored(h.opt.Form, func(b []byte) error {
		sent = true
		whole := content{ReadSeeker: bytes.NewReader(b), size: int64(len(b)), cache: h.cache}
		if h.opt.Form.Key != nil { // the next time it may be encrypted anew, and two halves would be none
			sendWhole(w, whole)
			return nil
		}
		whole.tag = chunkTag(id.String(), whole.size)
		send(w, r, whole)
		return nil
	})
	if err != nil && !sent {
		h.outcome.failed(w, r, err)
	}
}

// fileTag tells versions of a chunk's file apart. No two that encrypt a chunk make the
// same bytes of it.
func (h *chunks) fileTag(id string, info store.Info) string {
	if h.opt.Form.Key != nil {
		return fileTag(info.ModTime, info.Size)
	}
	return chunkTag(id, info.Size)
}

// chunkTag tells one packing of a chunk from another. It is the same for all servers
// that have it, whenever it came there; two compressors that make different bytes, but
// as many, of a chunk are told apart by who puts ranges of both together and verifies.
func chunkTag(id string, size int64) string {
	b := append(make([]byte, 0, 40), '"')
	b = append(b, id[:16]...)
	b = strconv.AppendInt(append(b, '-'), size, 36)
	return string(append(b, '"'))
}

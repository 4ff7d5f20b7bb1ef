package open_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	nethttp "net/http"

	"caravel/store"
	"caravel/store/open"
)

// noise is n bytes of which no two stretches are alike.
func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// checkAt compares ranges of f with what it must hold.
func checkAt(t *testing.T, f *open.File, want []byte) {
	t.Helper()
	size := int64(len(want))
	if f.Size() != size {
		t.Fatalf("size %d, want %d", f.Size(), size)
	}
	for _, r := range []struct{ off, n int64 }{
		{0, 1}, {0, size}, {size - 1, 1}, {size - 1, 2}, {size, 1}, {size + 10, 3}, {0, 0},
		{65535, 2}, {65536, 65536}, {65530, 200000}, {size / 2, 10},
	} {
		if r.off < 0 {
			continue
		}
		p := make([]byte, r.n)
		n, err := f.ReadAt(t.Context(), p, r.off)
		expect := want[min(r.off, size):min(r.off+r.n, size)]
		if !bytes.Equal(p[:n], expect) || (n < len(p)) != (err == io.EOF) || err != nil && err != io.EOF {
			t.Errorf("%d bytes at %d: got %d, error %v", r.n, r.off, n, err)
		}
	}
}

func TestAtLocal(t *testing.T) {
	want := noise(300_000)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, location := range []string{path, "file://" + path} {
		f, err := open.At(t.Context(), location, open.Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkAt(t, f, want)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := open.At(t.Context(), path+"x", open.Options{}); !errors.Is(err, store.ErrMissing) {
		t.Errorf("got %v, want that it is missing", err)
	}
	if _, err := open.At(t.Context(), filepath.Dir(path), open.Options{}); err == nil {
		t.Error("a folder is a file")
	}
}

func TestAtStdin(t *testing.T) {
	want := noise(300_000)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, append([]byte("before"), want...), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Seek(6, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		w.Write(want)
		w.Close()
	}()
	for name, stdin := range map[string]io.Reader{"file": file, "pipe": r, "reader": bytes.NewReader(want)} {
		f, err := open.At(t.Context(), "-", open.Options{Stdin: stdin})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkAt(t, f, want)
		f.Close()
	}
}

// A pipe that nobody writes to does not hold a run that is over.
func TestAtPipeInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(stop) })
	if _, err := open.At(ctx, "-", open.Options{Stdin: r}); !errors.Is(err, stop) {
		t.Errorf("got %v, want the cause", err)
	}
}

// A web serves one file.
type web struct {
	content  atomic.Pointer[[]byte]
	requests atomic.Int64
	whole    bool         // give no ranges
	fail     atomic.Int64 // so many answers are errors
	hold     chan struct{}
}

func (w *web) ServeHTTP(out nethttp.ResponseWriter, r *nethttp.Request) {
	w.requests.Add(1)
	if w.fail.Add(-1) >= 0 {
		nethttp.Error(out, "no", nethttp.StatusForbidden)
		return
	}
	if w.hold != nil && !strings.HasPrefix(r.Header.Get("Range"), "bytes=0-") {
		select {
		case <-w.hold:
		case <-r.Context().Done():
			return
		}
	}
	content := *w.content.Load()
	if w.whole {
		r.Header.Del("Range")
	}
	out.Header().Set("ETag", strconv.Quote(strconv.Itoa(int(content[0]))))
	nethttp.ServeContent(out, r, "", time.Time{}, bytes.NewReader(content))
}

func serve(t *testing.T, w *web, content []byte) (url string) {
	w.content.Store(&content)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	return server.URL + "/file"
}

func openAt(t *testing.T, location string, opt open.Options) *open.File {
	t.Helper()
	f, err := open.At(t.Context(), location, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAtRemote(t *testing.T) {
	for _, size := range []int{1, 65535, 65536, 65537, 1_000_000} {
		w := &web{}
		want := noise(size)
		f := openAt(t, serve(t, w, want), open.Options{})
		checkAt(t, f, want)
		blocks := int64(size+65535) / 65536
		if n := w.requests.Load(); n != blocks {
			t.Errorf("%d bytes: %d requests, want one for each of %d blocks", size, n, blocks)
		}
		if here, end := f.Has(0); !here || end != min(65536, int64(size)) {
			t.Errorf("block 0: here %v to %d", here, end)
		}
	}
}

// Blocks that memory has no room for are fetched again.
func TestAtRemoteMemory(t *testing.T) {
	w := &web{}
	want := noise(4 << 20)
	f := openAt(t, serve(t, w, want), open.Options{Memory: 1 << 20})
	// Those that are on their way do not drive out one another.
	p := make([]byte, len(want))
	if n, err := f.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, want) {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if n := w.requests.Load(); n != 64 {
		t.Errorf("%d requests for 64 blocks", n)
	}
	for range 2 {
		checkAt(t, f, want)
	}
	if n := w.requests.Load(); n < 100 {
		t.Errorf("%d requests for 64 blocks twice, with room for 16", n)
	}
}

func TestAtWithoutRanges(t *testing.T) {
	w := &web{whole: true}
	want := noise(1_000_000)
	checkAt(t, openAt(t, serve(t, w, want), open.Options{}), want)
	if n := w.requests.Load(); n != 2 {
		t.Errorf("%d requests, want one to find out and one for all", n)
	}
}

func TestAtRemoteErrors(t *testing.T) {
	w := &web{}
	want := noise(200_000)
	f := openAt(t, serve(t, w, want), open.Options{})
	p := make([]byte, 10)
	w.fail.Store(1)
	if _, err := f.ReadAt(t.Context(), p, 100_000); !errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v, want the server's refusal", err)
	}
	if _, err := f.ReadAt(t.Context(), p, 100_000); err != nil || !bytes.Equal(p, want[100_000:100_010]) {
		t.Errorf("the second try: %v", err)
	}
	other := noise(200_000)
	other[0]++
	w.content.Store(&other)
	if _, err := f.ReadAt(t.Context(), p, 190_000); !errors.Is(err, store.ErrChanged) {
		t.Errorf("got %v from another file", err)
	}
}

// One reader's end is not another's, and a block that all have left is asked
// for again.
func TestAtRemoteCancelled(t *testing.T) {
	w := &web{hold: make(chan struct{})}
	want := noise(200_000)
	f := openAt(t, serve(t, w, want), open.Options{})
	before := w.requests.Load()
	short, cancel := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := f.ReadAt(short, make([]byte, 10), 100_000); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left: %v", err)
		}
	})
	both.Go(func() {
		p := make([]byte, 10)
		if _, err := f.ReadAt(t.Context(), p, 100_100); err != nil || !bytes.Equal(p, want[100_100:100_110]) {
			t.Errorf("the one who stayed: %v", err)
		}
	})
	for w.requests.Load() == before {
		time.Sleep(time.Millisecond)
	}
	cancel()
	close(w.hold)
	both.Wait()
}

func TestAtClose(t *testing.T) {
	w := &web{hold: make(chan struct{})}
	defer close(w.hold)
	f := openAt(t, serve(t, w, noise(200_000)), open.Options{})
	failed := make(chan error)
	go func() {
		_, err := f.ReadAt(t.Context(), make([]byte, 1), 100_000)
		failed <- err
	}()
	for w.requests.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	f.Want(0, 200_000)
	f.Close()
	if err := <-failed; err == nil {
		t.Error("a read of a closed file succeeds")
	}
	if _, err := f.ReadAt(t.Context(), make([]byte, 1), 199_999); err == nil {
		t.Error("a read after Close succeeds")
	}
}

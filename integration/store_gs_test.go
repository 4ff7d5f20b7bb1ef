//go:build linux

package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	nethttp "net/http"
	"net/http/httputil"
	"strings"
	"syscall"
	"testing"

	"caravel/store"
	"caravel/store/gs"
	"caravel/store/storetest"
)

// A gsServer stands for Google's service.
type gsServer struct {
	*daemon
	address string
	url     string // of a front
	buckets int
}

// startGS starts one, which keeps all in memory.
func startGS(t *testing.T) *gsServer { return startGSWith(t, "-backend", "memory") }

// startGSWith starts one with flags that say where it keeps all.
func startGSWith(t *testing.T, flags ...string) *gsServer {
	t.Helper()
	s := &gsServer{address: freePort(t)}
	s.url = s.front(t, nil).url
	host, port, _ := strings.Cut(s.address, ":")
	s.daemon = start(t, serverProgram(t, "fake-gcs-server"), append(flags, "-scheme", "http", "-host", host, "-port", port,
		"-public-host", "127.0.0.1", "-log-level", "error")...)
	s.answers(s.address)
	return s
}

// front is what clients need before it. It knows a PUT of the XML API only by the query
// of signed URLs, which Google's does not want, and objects by one host's name.
func (s *gsServer) front(t testing.TB, cert *tls.Certificate) *front {
	t.Helper()
	return startFront(t, "http://"+s.address, cert, func(r *httputil.ProxyRequest) {
		r.Out.Host = "127.0.0.1"
		if r.Out.Method == nethttp.MethodPut {
			r.Out.URL.RawQuery = "X-Goog-Algorithm=GOOG4-RSA-SHA256"
		}
	})
}

// bucket makes one and returns its URL.
func (s *gsServer) bucket(t *testing.T) string {
	t.Helper()
	s.buckets++
	name := fmt.Sprintf("bucket-%d", s.buckets)
	resp, err := nethttp.Post(s.url+"/storage/v1/b", "application/json", strings.NewReader(`{"name": "`+name+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != nethttp.StatusOK {
		t.Fatal(resp.Status)
	}
	return "gs://" + name
}

func TestGSStore(t *testing.T) {
	s := startGS(t)
	for _, folder := range []string{"", "/a folder/below"} {
		open := func(t *testing.T) *gs.Bucket {
			t.Helper()
			b, err := gs.New(s.bucket(t)+strings.ReplaceAll(folder, " ", "%20"), gs.Options{Emulator: s.url})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		t.Run("folder "+folder, func(t *testing.T) {
			storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
				b := open(t)
				for name, content := range objects {
					if err := b.Put(t.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
						t.Fatal(err)
					}
				}
				return b
			})
			storetest.Run(t, func(t *testing.T) store.Writer {
				w, err := store.Writable(open(t), store.Form{})
				if err != nil {
					t.Fatal(err)
				}
				return w
			})
		})
	}
	t.Run("many", func(t *testing.T) { // more than one page
		b := newGS(t, s.bucket(t), s)
		for i := range 1100 {
			if err := b.Put(t.Context(), fmt.Sprintf("%04d", i), strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for _, err := range b.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 1100 {
			t.Errorf("%d names", n)
		}
	})
}

func newGS(t *testing.T, location string, s *gsServer) *gs.Bucket {
	t.Helper()
	b, err := gs.New(location, gs.Options{Emulator: s.url})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGSImages has images in a bucket, made and used there.
func TestGSImages(t *testing.T) {
	s := startGS(t)
	setenv(t, "STORAGE_EMULATOR_HOST", s.url)
	there := s.bucket(t) + "/images"
	p := packTree(t, caravel, everything(t, 8))
	if got := strings.TrimSpace(must(t, caravel, "make", there+"/tree.caidx", p.source)); got != p.digest {
		t.Errorf("made %s, want %s", got, p.digest)
	}
	_, dir := mountedTree(t, "--cache-dir=none", there+"/tree.caidx")
	showsTree(t, dir, p)
	image := p.path("disk.img")
	recipe{seed: 3, size: 3_000_000, kind: "random"}.write(t, image)
	must(t, caravel, "make", there+"/disk.caibx", image)
	if got := must(t, caravel, "cat", "--cache-dir=none", there+"/disk.caibx"); got != string(read(t, image)) {
		t.Errorf("cat: %d bytes", len(got))
	}
	t.Run("device", func(t *testing.T) {
		needLoop(t)
		m := start(t, caravel, "mkdev", "--via=loop", "--cache-dir=none", there+"/disk.caibx")
		if got := read(t, strings.TrimPrefix(m.line(), "Attached: ")); !bytes.Equal(got[:3_000_000], read(t, image)) {
			t.Error("the device holds something else")
		}
		m.ends(syscall.SIGTERM, soon)
	})
	complaint(t, run(t, caravel, "list", there+"/none.caidx"), there+"/none.caidx", "404")
}

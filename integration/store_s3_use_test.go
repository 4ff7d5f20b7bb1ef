//go:build linux

package integration

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"caravel/integration/relay"
	"caravel/store"
	"caravel/store/s3"
)

// TestS3Images makes images whose indexes, chunks and side files all lie in a
// bucket, and uses them there.
func TestS3Images(t *testing.T) {
	s3Env(t)
	s := startS3(t)
	there := s.bucket(t) + "/images"
	t.Run("disk", func(t *testing.T) {
		dir := t.TempDir()
		image := filepath.Join(dir, "disk.img")
		recipe{seed: 8, size: 6 << 20, kind: "random"}.write(t, image)
		index := there + "/disk.caibx"
		must(t, caravel, "make", "--chunk-size=16K", index, image)
		must(t, caravel, "extract", "--no-sync", index, filepath.Join(dir, "out"))
		holds(t, filepath.Join(dir, "out"), read(t, image))

		m, file := mounted(t, index, filepath.Join(dir, "mnt"))
		holds(t, file, read(t, image))
		if status := m.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("mount: status %d, %s", status, m.stderr)
		}
		d, device := attached(t, index)
		holds(t, device, read(t, image))
		if status := d.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("mkdev: status %d, %s", status, d.stderr)
		}
	})
	t.Run("tree", func(t *testing.T) {
		tree := t.TempDir()
		smallFiles(t)(tree)
		index := there + "/tree.caidx"
		must(t, caravel, "make", "--chunk-size=16K", index, tree)
		mnt := filepath.Join(t.TempDir(), "mnt")
		m := start(t, caravel, "mount", index, mnt)
		if line := m.line(); !strings.HasPrefix(line, "Mounted: ") {
			t.Fatalf("%s; %s", line, m.stderr)
		}
		unmountLater(t, mnt)
		must(t, "diff", "-r", mnt, tree)
		if status := m.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("mount: status %d, %s", status, m.stderr)
		}
		b, err := s3.New(there, s3.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Stat(t.Context(), "tree.caidx.tree"); err != nil {
			t.Errorf("the sidecar is not beside the index: %v", err)
		}
	})
}

// TestS3Nowhere has who is nobody, and who wants what is not there, refused in a line.
func TestS3Nowhere(t *testing.T) {
	s3Env(t)
	s := startS3(t)
	there := s.bucket(t)
	tests := []struct{ name, key, secret, url, want string }{
		{"bucket", s3Access, s3Secret, there + "none", "NoSuchBucket"},
		{"nobody", "", "", there, "AccessDenied"},
	}
	t.Setenv("HOME", t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("S3_ACCESS_KEY", tt.key)
			t.Setenv("S3_SECRET_KEY", tt.secret)
			b, err := s3.New(tt.url, s3.Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = b.Open(t.Context(), "x", store.Range{})
			errPut := b.Put(t.Context(), "x", strings.NewReader("x"), 1)
			for _, err := range []error{err, errPut} {
				if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret "+tt.secret) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			}
		})
	}
}

// TestS3LargeObject puts what is sent in parts, from a stream, and ends another one
// in the middle: nothing of it can be seen.
func TestS3LargeObject(t *testing.T) {
	s3Env(t)
	s := startS3(t)
	b := s.open(t, s.bucket(t), nil)
	const size = 70 << 20
	content := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{4}), size) }
	if err := b.Put(t.Context(), "large", content(), size); err != nil {
		t.Fatal(err)
	}
	body, info, err := b.Open(t.Context(), "large", store.Range{})
	if err != nil || info.Size != size {
		t.Fatalf("%d bytes, %v", info.Size, err)
	}
	defer body.Close()
	sameBytes(t, body, content())
	for name, r := range map[string]io.Reader{
		"short": io.LimitReader(content(), size-1),
		"cut":   io.MultiReader(io.LimitReader(content(), size/2), errorReader{io.ErrUnexpectedEOF}),
	} {
		if err := b.Put(t.Context(), name, r, size); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := b.Stat(t.Context(), name); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// sameBytes compares two streams.
func sameBytes(t *testing.T, got, want io.Reader) {
	t.Helper()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errA := io.ReadFull(got, a)
		m, errB := io.ReadFull(want, b)
		if n != m || string(a[:n]) != string(b[:m]) {
			t.Fatal("other bytes")
		}
		if errA != nil || errB != nil {
			if errA != errB {
				t.Errorf("%v, want %v", errA, errB)
			}
			return
		}
	}
}

// TestS3Cut reads through a line that breaks again and again.
func TestS3Cut(t *testing.T) {
	s3Env(t)
	s := startS3(t)
	there := s.bucket(t)
	dir := t.TempDir()
	image, out := filepath.Join(dir, "disk.img"), filepath.Join(dir, "out")
	recipe{seed: 9, size: 4 << 20, kind: "random"}.write(t, image)
	must(t, caravel, "make", "--chunk-size=16K", there+"/disk.caibx", image)
	kinds := []relay.Kind{relay.Reset, relay.Truncate, relay.None, relay.None}
	r, err := relay.Start(s.address, relay.Options{Faults: func(n int64) relay.Fault {
		return relay.Fault{Kind: kinds[n%int64(len(kinds))], After: 100_000 * (n % 7)}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	must(t, caravel, "extract", "--no-sync", strings.Replace(there, s.address, r.Addr(), 1)+"/disk.caibx", out)
	holds(t, out, read(t, image))
	if n := r.Counts().Connections; n < 4 {
		t.Errorf("%d connections: none was cut", n)
	}
}

// TestS3TLS makes and reads an image over TLS, where signatures do not hold for
// the bytes of parts.
func TestS3TLS(t *testing.T) {
	s3Env(t)
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	s := startS3(t, "--cert", cert, "--key", key)
	if err := os.Mkdir(filepath.Join(s.dir, "images"), 0o755); err != nil {
		t.Fatal(err)
	}
	image, out := filepath.Join(dir, "disk.img"), filepath.Join(dir, "out")
	recipe{seed: 11, size: 1 << 20, kind: "random"}.write(t, image)
	index := "s3+https://" + s.address + "/images/disk.caibx"
	complaint(t, run(t, caravel, "make", index, image), "certificate")
	t.Setenv("SSL_CERT_FILE", cert)
	must(t, caravel, "make", "--chunk-size=16K", index, image)
	must(t, caravel, "extract", "--no-sync", index, out)
	holds(t, out, read(t, image))
}

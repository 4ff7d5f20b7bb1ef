//go:build linux

package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	nethttp "net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"caravel/store"
	"caravel/store/http"
	"caravel/store/s3"
	"caravel/store/storetest"
)

// The keys of the servers that tests start.
const (
	s3Access = "caravel"
	s3Secret = "a secret that no message may show"
)

// An s3Server is a real S3 server on a folder.
type s3Server struct {
	*daemon
	dir     string // each folder in there is a bucket
	sidecar string // what the server knows of objects: not every file system has extended attributes
	address string
	made    atomic.Int64 // buckets
}

// startS3 starts a server of a folder. It has buckets behind its address and in front
// of its domain.
func startS3(t *testing.T, args ...string) *s3Server {
	t.Helper()
	s := &s3Server{dir: t.TempDir(), sidecar: t.TempDir(), address: freePort(t)}
	s.run(t, args...)
	return s
}

func (s *s3Server) run(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"--port", s.address, "--access", s3Access, "--secret", s3Secret, "--keep-alive", "--quiet",
		"--virtual-domain", s.domain()}, args...)
	s.daemon = start(t, serverProgram(t, "versitygw"), append(args, "posix", "--sidecar", s.sidecar, s.dir)...)
	s.answers(s.address)
}

// domain is a name of the server. Those of its buckets are below, which only clients
// with options find.
func (s *s3Server) domain() string {
	_, port, _ := strings.Cut(s.address, ":")
	return "s3.localhost:" + port
}

// bucket makes a bucket and returns its URL.
func (s *s3Server) bucket(t *testing.T) string {
	t.Helper()
	client, err := minio.New(s.address, &minio.Options{Creds: credentials.NewStaticV4(s3Access, s3Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("bucket%d", s.made.Add(1))
	if err := client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatalf("%v; %s", err, s.stderr)
	}
	return "s3+http://" + s.address + "/" + name
}

// s3Env gives commands that the test starts, and the test itself, the server's keys.
func s3Env(t *testing.T) {
	t.Setenv("S3_ACCESS_KEY", s3Access)
	t.Setenv("S3_SECRET_KEY", s3Secret)
	for _, name := range []string{"S3_SESSION_TOKEN", "S3_REGION", "AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} {
		t.Setenv(name, "")
	}
}

// options are those of a client to whom all names are the server's.
func (s *s3Server) options() s3.Options {
	client := http.NewClient(http.Options{})
	client.Transport.(*nethttp.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	}
	return s3.Options{HTTP: http.Options{Client: client}}
}

// open opens a location that holds objects.
func (s *s3Server) open(t *testing.T, url string, objects map[string][]byte) *s3.Bucket {
	t.Helper()
	b, err := s3.New(url, s.options())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range objects {
		if err := b.Put(t.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestS3Store runs the suites of stores over a real server, its buckets addressed
// in each way.
func TestS3Store(t *testing.T) {
	s3Env(t)
	s := startS3(t)
	for name, location := range map[string]func(url string) string{
		"bucket": func(url string) string { return url },
		"prefix": func(url string) string { return url + "/a%20folder/of+mine" },
		"dns": func(url string) string {
			return "s3+http://" + s.domain() + "/" + filepath.Base(url) + "/x?lookup=dns"
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
				return s.open(t, location(s.bucket(t)), objects)
			})
		})
	}
	for _, form := range []store.Form{{}, {Compression: store.None}} {
		t.Run(fmt.Sprintf("%+v", form), func(t *testing.T) {
			storetest.RunStore(t, form, func(t *testing.T, objects map[string][]byte) store.Store {
				return store.Chunks(s.open(t, s.bucket(t), objects), form)
			})
			storetest.Run(t, func(t *testing.T) store.Writer {
				w, err := store.Writable(s.open(t, s.bucket(t), nil), form)
				if err != nil {
					t.Fatal(err)
				}
				return w
			})
		})
	}
}

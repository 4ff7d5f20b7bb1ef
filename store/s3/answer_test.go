package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/http"
	"caravel/store/s3"
)

// serve makes a bucket of a handler, to which we are somebody.
func serve(t *testing.T, h nethttp.HandlerFunc) *s3.Bucket {
	t.Helper()
	nobody(t)
	t.Setenv("S3_ACCESS_KEY", "somebody")
	t.Setenv("S3_SECRET_KEY", "a secret")
	return serveAs(t, h, s3.Credentials{})
}

// serveAs makes a bucket of a handler, to which we are who the environment and c
// say.
func serveAs(t *testing.T, h nethttp.HandlerFunc, c s3.Credentials) *s3.Bucket {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	b, err := s3.New("s3+"+server.URL+"/bucket/d", s3.Options{Credentials: c, HTTP: http.Options{Stall: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refuse answers as S3 does.
func refuse(w nethttp.ResponseWriter, status int, code, more string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>no\nway</Message>%s</Error>", code, more)
}

// get reads an object whole.
func get(ctx context.Context, b *s3.Bucket, name string, r store.Range) (string, error) {
	body, _, err := b.Open(ctx, name, r)
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return string(text), err
}

func TestAnswers(t *testing.T) {
	busy := errors.New("busy")
	tests := []struct {
		status int
		code   string
		kind   error // nil: worth another try
	}{
		{404, "NoSuchKey", store.ErrMissing},
		{404, "NoSuchBucket", store.ErrRefused},
		{403, "AccessDenied", store.ErrRefused},
		{403, "SignatureDoesNotMatch", store.ErrRefused},
		{403, "RequestTimeTooSkewed", store.ErrRefused},
		{400, "InvalidArgument", store.ErrRefused},
		{400, "RequestTimeout", nil},
		{409, "OperationAborted", nil},
		{500, "InternalError", nil},
		{502, "BadGateway", nil},
		{503, "SlowDown", busy},
		{503, "ServiceUnavailable", busy},
		{429, "TooManyRequests", busy},
		{400, "ThrottlingException", busy},
	}
	for _, tt := range tests {
		b := serve(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			w.Header().Set("Retry-After", "7")
			refuse(w, tt.status, tt.code, "")
		})
		_, err := get(t.Context(), b, "x", store.Range{})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("/bucket/d/x: %d %s: no way", tt.status, tt.code)) {
			t.Errorf("%s: %v", tt.code, err)
			continue
		}
		var later *store.BusyError
		switch isBusy := errors.As(err, &later); {
		case tt.kind == busy && (!isBusy || later.After != 7*time.Second || store.Final(err)):
			t.Errorf("%s: got %v, want one that asks for patience", tt.code, err)
		case tt.kind == nil && store.Final(err):
			t.Errorf("%s: got %v, want one that is worth another try", tt.code, err)
		case tt.kind != nil && tt.kind != busy && !errors.Is(err, tt.kind):
			t.Errorf("%s: got %v, want one that is %v", tt.code, err, tt.kind)
		}
		if tt.kind == store.ErrMissing || tt.kind == store.ErrRefused {
			err := b.Put(t.Context(), "x", strings.NewReader("x"), 1)
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), "/bucket/d/x: ") {
				t.Errorf("put, %s: %v", tt.code, err)
			}
		}
	}
}

// The region is wrong at first: the server says which is right, and is asked in that
// one from then on.
func TestOtherRegion(t *testing.T) {
	for _, method := range []string{"open", "stat", "put"} {
		var regions []string
		var mu sync.Mutex
		b := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
			_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=somebody/")
			region := strings.Split(rest+"//", "/")[1]
			mu.Lock()
			regions = append(regions, region)
			mu.Unlock()
			if region != "there-1" {
				w.Header().Set("X-Amz-Bucket-Region", "there-1")
				refuse(w, 400, "AuthorizationHeaderMalformed", "<Region>there-1</Region>")
				return
			}
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			io.Copy(io.Discard, r.Body)
			if r.Method == nethttp.MethodGet {
				io.WriteString(w, "content")
			}
		})
		for range 2 {
			var err error
			switch method {
			case "open":
				_, err = get(t.Context(), b, "x", store.Range{})
			case "stat":
				_, err = b.Stat(t.Context(), "x")
			default:
				err = b.Put(t.Context(), "x", strings.NewReader("x"), 1)
			}
			if err != nil {
				t.Errorf("%s: %v", method, err)
			}
		}
		if got := strings.Join(regions, " "); got != "us-east-1 there-1 there-1" {
			t.Errorf("%s: asked in %s", method, got)
		}
	}
}

// Temporary keys in a file are read again when they have expired.
func TestExpired(t *testing.T) {
	nobody(t)
	file := filepath.Join(t.TempDir(), "credentials")
	keys := func(access string) {
		text := fmt.Sprintf("[work]\naws_access_key_id = %s\naws_secret_access_key = s\naws_session_token = token-%[1]s\n", access)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys("old")
	var valid atomic.Value
	valid.Store("old")
	b := serveAs(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		want := valid.Load().(string)
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+want+"/") || r.Header.Get("X-Amz-Security-Token") != "token-"+want {
			refuse(w, 400, "ExpiredToken", "")
			return
		}
		io.WriteString(w, "content")
	}, s3.Credentials{File: file, Profile: "work"})
	for _, now := range []string{"old", "new", "newer"} {
		keys(now)
		valid.Store(now)
		if now == "newer" {
			if _, err := b.Stat(t.Context(), "x"); err != nil {
				t.Errorf("stat: %v", err)
			}
		}
		if got, err := get(t.Context(), b, "x", store.Range{}); err != nil || got != "content" {
			t.Errorf("%s: %q, %v", now, got, err)
		}
	}
	valid.Store("none")
	if _, err := get(t.Context(), b, "x", store.Range{}); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "ExpiredToken") {
		t.Errorf("got %v, want ErrRefused", err)
	}
}

// A range at the end is empty, and one behind it an error, whether the server says
// where the end is or not.
func TestBehindTheEnd(t *testing.T) {
	for _, more := range []string{"", "<ActualObjectSize>10</ActualObjectSize>"} {
		b := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
			w.Header().Set("ETag", `"one"`)
			if r.Method == nethttp.MethodHead {
				w.Header().Set("Content-Length", "10")
				return
			}
			refuse(w, 416, "InvalidRange", more)
		})
		if got, err := get(t.Context(), b, "x", store.Range{Off: 10, Len: 5}); err != nil || got != "" {
			t.Errorf("at the end: %q, %v", got, err)
		}
		if _, err := get(t.Context(), b, "x", store.Range{Off: 11, Len: 5}); !errors.Is(err, store.ErrRefused) {
			t.Errorf("behind the end: %v", err)
		}
		if _, err := get(t.Context(), b, "x", store.Range{Off: 10, Tag: `"two"`}); more == "" && !errors.Is(err, store.ErrChanged) {
			t.Errorf("of another version: %v", err)
		}
	}
}

// Requests without keys are not signed, and no other host sees a signature.
func TestSignedForWhom(t *testing.T) {
	nobody(t)
	var seen atomic.Value
	look := func(w nethttp.ResponseWriter, r *nethttp.Request) {
		seen.Store(r.Header.Get("Authorization") + r.Header.Get("X-Amz-Security-Token"))
		io.WriteString(w, "content")
	}
	if _, err := get(t.Context(), serveAs(t, look, s3.Credentials{}), "x", store.Range{}); err != nil || seen.Load() != "" {
		t.Errorf("unsigned: %q, %v", seen.Load(), err)
	}
	elsewhere := httptest.NewServer(nethttp.HandlerFunc(look))
	t.Cleanup(elsewhere.Close)
	b := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		nethttp.Redirect(w, r, elsewhere.URL+"/x", nethttp.StatusTemporaryRedirect)
	})
	if _, err := get(t.Context(), b, "x", store.Range{}); err != nil || seen.Load() != "" {
		t.Errorf("elsewhere: %q, %v", seen.Load(), err)
	}
}

// One chunk is one request, and so is one put.
func TestRequests(t *testing.T) {
	var asked atomic.Int64
	b := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		asked.Add(1)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method == nethttp.MethodPut && (string(body) != "content" || r.ContentLength != 7 || r.Header.Get("Content-Type") != "application/zstd") {
			nethttp.Error(w, "bad", nethttp.StatusBadRequest)
		}
	})
	const name = "1a2b/1a2b.cacnk"
	if _, err := get(t.Context(), b, name, store.Range{}); err != nil || asked.Swap(0) != 1 {
		t.Errorf("open: %v", err)
	}
	for _, r := range []io.Reader{strings.NewReader("content"), io.MultiReader(strings.NewReader("content"))} {
		if err := b.Put(t.Context(), name, r, 7); err != nil || asked.Swap(0) != 1 {
			t.Errorf("put: %v", err)
		}
	}
}

// A server that goes silent holds nobody longer than the limit.
func TestStalled(t *testing.T) {
	release := make(chan struct{})
	b := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	if _, err := get(t.Context(), b, "x", store.Range{}); err == nil || !strings.Contains(err.Error(), "stalled") || store.Final(err) {
		t.Errorf("open: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.Put(ctx, "x", strings.NewReader("x"), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put: %v", err)
	}
}

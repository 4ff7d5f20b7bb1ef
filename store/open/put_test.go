package open_test

import (
	"errors"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/open"
)

// A shelf takes files by PUT, after having answered with these statuses.
type shelf struct {
	mu      sync.Mutex // guards what follows
	answers []int
	files   map[string]string
}

func newShelf(t *testing.T, answers ...int) (*shelf, string) {
	s := &shelf{answers: answers, files: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

func (s *shelf) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	content, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
	case len(s.answers) > 0:
		w.WriteHeader(s.answers[0])
		s.answers = s.answers[1:]
	case r.Method == nethttp.MethodDelete:
		delete(s.files, r.URL.Path)
	default:
		s.files[r.URL.Path] = string(content)
		w.WriteHeader(nethttp.StatusCreated)
	}
}

func TestPut(t *testing.T) {
	for _, put := range []func(location, content string) error{
		func(location, content string) error {
			return open.Put(t.Context(), location, []byte(content), open.Options{})
		},
		func(location, content string) error {
			return open.PutOnce(t.Context(), location, strings.NewReader(content), open.Options{})
		},
	} {
		s, url := newShelf(t)
		if err := put(url+"/d/x.caibx?key=k", "content"); err != nil || s.files["/d/x.caibx"] != "content" {
			t.Errorf("%q, %v", s.files, err)
		}
		path := filepath.Join(t.TempDir(), "x.caibx")
		if err := put(path, "content"); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != "content" {
			t.Errorf("%q, %v", got, err)
		}
		if err := put("gopher://host/x", "content"); err == nil || !strings.Contains(err.Error(), "not supported") {
			t.Errorf("got %v", err)
		}
	}
}

// TestPutTriesAgain while that may help, within the time.
func TestPutTriesAgain(t *testing.T) {
	tests := []struct {
		name    string
		answers []int
		timeout time.Duration
		want    string
	}{
		{"passes", []int{500, 503}, 0, ""},
		{"final", []int{405}, 0, "405"},
		{"gives up", []int{500, 500, 500, 500, 500, 500}, 250 * time.Millisecond, "tried"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, url := newShelf(t, tt.answers...)
			err := open.Put(t.Context(), url+"/x", []byte("content"), open.Options{Timeout: tt.timeout})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if got := s.files["/x"]; (got == "content") != (err == nil) {
				t.Errorf("%q is there", got)
			}
		})
	}
	_, url := newShelf(t, 500)
	if err := open.PutOnce(t.Context(), url+"/x", strings.NewReader("content"), open.Options{}); err == nil {
		t.Error("what can be read once was sent twice")
	}
}

func TestDelete(t *testing.T) {
	s, url := newShelf(t)
	s.files["/x"] = "content"
	for range 2 {
		if err := open.Delete(t.Context(), url+"/x", open.Options{}); err != nil || len(s.files) > 0 {
			t.Errorf("%q, %v", s.files, err)
		}
	}
	_, url = newShelf(t, 405)
	if err := open.Delete(t.Context(), url+"/x", open.Options{}); !errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestRemote(t *testing.T) {
	for location, want := range map[string]bool{"x": false, "file:///x": false, "http://host/x": true, "HTTPS://host/x": true, "-": false, "nope://host/x": false} {
		if got := open.Remote(location); got != want {
			t.Errorf("%s: %v", location, got)
		}
	}
}

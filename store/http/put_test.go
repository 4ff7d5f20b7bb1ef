package http_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/http"
	"caravel/store/storetest"
)

// A shelf is a web server that takes files.
type shelf struct{ objects *storetest.Memory }

func (s shelf) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/images/")
	switch r.Method {
	case nethttp.MethodPut:
		if err := s.objects.Put(r.Context(), name, r.Body, r.ContentLength); err != nil {
			nethttp.Error(w, err.Error(), nethttp.StatusBadRequest)
			return
		}
		w.WriteHeader(nethttp.StatusCreated)
	case nethttp.MethodDelete:
		_ = s.objects.Delete(r.Context(), name)
		w.WriteHeader(nethttp.StatusNoContent)
	default:
		s.get(w, r, name)
	}
}

func (s shelf) get(w nethttp.ResponseWriter, r *nethttp.Request, name string) {
	body, info, err := s.objects.Open(r.Context(), name, store.Range{})
	if err != nil {
		nethttp.NotFound(w, r)
		return
	}
	content, _ := io.ReadAll(body)
	w.Header().Set("ETag", fmt.Sprintf("%q", info.Tag))
	w.Header().Set("Content-Type", "application/octet-stream")
	nethttp.ServeContent(w, r, "", modified, bytes.NewReader(content))
}

// newShelf makes a Web of a server that holds objects and takes more.
func newShelf(t *testing.T, objects map[string][]byte) *http.Web {
	return newWeb(t, serve(t, shelf{storetest.NewMemory(objects)}.ServeHTTP).URL+"/images", http.Options{})
}

func TestPutBlobs(t *testing.T) {
	storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs { return newShelf(t, objects) })
}

func TestPutChunks(t *testing.T) {
	for _, form := range []store.Form{{}, {Compression: store.None}} {
		t.Run(fmt.Sprintf("%+v", form), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Writer {
				w, err := store.Writable(newShelf(t, nil), form)
				if err != nil {
					t.Fatal(err)
				}
				return w
			})
		})
	}
}

// TestPutAnswers says what each answer to a PUT means.
func TestPutAnswers(t *testing.T) {
	tests := []struct {
		code  int
		kind  error // what the error matches; nil: worth another try
		wants []string
	}{
		{200, nil, nil},
		{201, nil, nil},
		{204, nil, nil},
		{202, store.ErrRefused, []string{"202 Accepted"}},
		{400, store.ErrRefused, []string{"400 Bad Request", `"because"`}},
		{401, store.ErrRefused, []string{"401 Unauthorized", "user:password@"}},
		{403, store.ErrRefused, []string{"403 Forbidden", "lets nobody write there"}},
		{404, store.ErrRefused, []string{"404 Not Found", "no such folder"}},
		{405, store.ErrRefused, []string{"405 Method Not Allowed", `"because"`, "for reading only", "knows no PUT", "copy that to the server"}},
		{408, nil, []string{"408"}},
		{409, store.ErrRefused, []string{"409 Conflict", "no such folder"}},
		{411, store.ErrRefused, []string{"411 Length Required"}},
		{413, store.ErrRefused, []string{"413 Request Entity Too Large", "client_max_body_size"}},
		{429, nil, []string{"429 Too Many Requests"}},
		{500, nil, []string{"500 Internal Server Error"}},
		{501, store.ErrRefused, []string{"501 Not Implemented", "for reading only"}},
		{503, nil, []string{"503 Service Unavailable"}},
		{507, store.ErrRefused, []string{"507 Insufficient Storage", "no room left"}},
	}
	for _, tt := range tests {
		t.Run(nethttp.StatusText(tt.code), func(t *testing.T) {
			web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tt.code)
				if tt.code != 204 {
					io.WriteString(w, "because\n")
				}
			}).URL+"/d?secret=sesame", http.Options{})
			err := web.Put(t.Context(), "a/file", strings.NewReader("content"), 7)
			if tt.wants == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || errors.Is(err, store.ErrRefused) != (tt.kind != nil) || store.Final(err) != (tt.kind != nil) || errors.Is(err, store.ErrMissing) {
				t.Fatalf("got %v, final %v", err, store.Final(err))
			}
			for _, want := range append(tt.wants, web.Locate("a/file")) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %q", want, err)
				}
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("%q shows a secret", err)
			}
			busy := (*store.BusyError)(nil)
			if patient := errors.As(err, &busy); patient != (tt.code == 429 || tt.kind == nil && tt.code >= 500) || patient && busy.After != 7*time.Second {
				t.Errorf("asks for patience: %v, %+v", patient, busy)
			}
		})
	}
}

func TestPutUnknownUser(t *testing.T) {
	server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) { w.WriteHeader(401) })
	web := newWeb(t, strings.Replace(server.URL, "://", "://me:sesame@", 1), http.Options{})
	err := web.Put(t.Context(), "file", strings.NewReader("x"), 1)
	if err == nil || !strings.Contains(err.Error(), "does not know this user") || strings.Contains(err.Error(), "sesame") {
		t.Error(err)
	}
}

// TestPutHeader says how an object is sent.
func TestPutHeader(t *testing.T) {
	tests := []struct {
		name   string
		r      io.Reader
		size   int64
		length int64
		expect string
	}{
		{"known", strings.NewReader("123"), 3, 3, ""},
		{"has a length", strings.NewReader("123"), -1, 3, ""},
		{"unknown", struct{ io.Reader }{strings.NewReader("123")}, -1, -1, "100-continue"},
		{"none", strings.NewReader(""), 0, 0, ""},
		{"much", bytes.NewReader(make([]byte, 2<<20)), -1, 2 << 20, "100-continue"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan *nethttp.Request, 1)
			web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
				io.Copy(io.Discard, r.Body)
				got <- r
			}).URL, http.Options{Header: nethttp.Header{"X-Mine": {"yes"}}})
			if err := web.Put(t.Context(), "file", tt.r, tt.size); err != nil {
				t.Fatal(err)
			}
			r := <-got
			if r.Method != "PUT" || r.ContentLength != tt.length || r.Header.Get("Expect") != tt.expect || r.Header.Get("X-Mine") != "yes" {
				t.Errorf("%s, %d bytes, %v", r.Method, r.ContentLength, r.Header)
			}
			if _, told := r.Header["X-Idempotency-Key"]; told {
				t.Errorf("the server was told: %v", r.Header)
			}
		})
	}
}

// TestPutReadersOnly meets servers that answer a PUT as if it were a GET.
func TestPutReadersOnly(t *testing.T) {
	tests := []struct {
		name, there, content string
		seek, kept           bool
	}{
		{"the same as is there", "content", "content", true, true},
		{"another one", "content", "CONTENT", true, false},
		{"another size", "content", "content and more", true, false},
		{"another size, read once", "content", "content and more", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			web := newWeb(t, files(t, map[string]string{"d/file": tt.there}).URL+"/d", http.Options{})
			var r io.Reader = strings.NewReader(tt.content)
			if !tt.seek {
				r = io.LimitReader(r, 100)
			}
			err := web.Put(t.Context(), "file", r, int64(len(tt.content)))
			if (err == nil) != tt.kept || err != nil && (!errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "reading only")) {
				t.Error(err)
			}
		})
	}
}

// TestPutRedirect sends the object where the server says, if that is about writing.
func TestPutRedirect(t *testing.T) {
	objects := storetest.NewMemory(nil)
	to := httptest.NewServer(shelf{objects})
	t.Cleanup(to.Close)
	for _, code := range []int{301, 302, 303, 307, 308} {
		from := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
			nethttp.Redirect(w, r, to.URL+r.URL.Path, code)
		})
		web, name := newWeb(t, from.URL+"/images", http.Options{}), fmt.Sprint(code)
		err := web.Put(t.Context(), name, strings.NewReader("content"), -1)
		_, _, there := objects.Open(t.Context(), name, store.Range{})
		if follows := code >= 307; follows != (err == nil) || follows != (there == nil) {
			t.Errorf("%d: %v", code, err)
		} else if err != nil && (!errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), to.URL)) {
			t.Errorf("%d: %v", code, err)
		}
		once := io.LimitReader(strings.NewReader("content"), 100)
		if err := web.Put(t.Context(), name, once, 7); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%d, of what can be read once: %v", code, err)
		}
	}
}

// TestPutOnDeadConnection sends an object once more if the connection that was kept
// is dead by now, and can be read again.
func TestPutOnDeadConnection(t *testing.T) {
	for _, seek := range []bool{true, false} {
		var puts atomic.Int64
		server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
			if content, err := io.ReadAll(r.Body); err != nil || string(content) != "content" {
				t.Errorf("%q, %v", content, err)
			}
			if puts.Add(1) != 2 {
				return
			}
			conn, _, err := nethttp.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close() // as one that has been idle for too long
			}
		})
		web := newWeb(t, server.URL, http.Options{})
		put := func() error {
			r := io.Reader(strings.NewReader("content"))
			if !seek {
				r = io.LimitReader(r, 100)
			}
			return web.Put(t.Context(), "file", r, 7)
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if err := put(); (err == nil) != seek || err != nil && store.Final(err) {
			t.Errorf("can be read again %v: %v", seek, err)
		}
	}
}

// TestPutStops uses the reader for nothing after Put has returned, whatever the
// server does. The race detector says so.
func TestPutStops(t *testing.T) {
	server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.WriteHeader(nethttp.StatusForbidden) // at once, without reading
	})
	web := newWeb(t, server.URL, http.Options{})
	content := make([]byte, 1<<20)
	for range 20 {
		if err := web.Put(t.Context(), "file", bytes.NewReader(content), -1); err == nil {
			t.Error("no error")
		}
		clear(content)
	}
}

// TestPutStalls gives up a server that takes nothing, and one that says nothing,
// but not for a slow source.
func TestPutStalls(t *testing.T) {
	const stall = 10 * time.Second
	tests := []struct {
		name string
		r    io.Reader
		say  func(net.Conn)
		took time.Duration
		want string
	}{
		{"takes nothing", bytes.NewReader(make([]byte, 1<<20)), func(conn net.Conn) { time.Sleep(time.Hour) }, stall, "stalled"},
		{"says nothing", strings.NewReader("x"), func(conn net.Conn) {
			io.CopyN(io.Discard, conn, 1)
			time.Sleep(time.Hour)
		}, stall, "stalled"},
		{"slow source", slow{}, func(conn net.Conn) {
			time.Sleep(65 * time.Second) // the body came after 60
			io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
			time.Sleep(time.Hour)
		}, 65 * time.Second, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := wired(t, http.Options{Stall: stall}, tt.say)
				began := time.Now()
				err := web.Put(t.Context(), "file", tt.r, -1)
				switch {
				case tt.want == "" && err != nil:
					t.Error(err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || store.Final(err)):
					t.Errorf("got %v", err)
				case time.Since(began).Truncate(time.Second) != tt.took:
					t.Errorf("after %v", time.Since(began))
				}
			})
		})
	}
}

// slow gives one byte after a while.
type slow struct{}

func (slow) Len() int { return 1 }

func (slow) Read(p []byte) (int, error) {
	time.Sleep(time.Minute)
	p[0] = 'x'
	return 1, io.EOF
}

func TestPutNames(t *testing.T) {
	web := newShelf(t, nil)
	for _, name := range []string{"", "..", "../x", "/x", "a//b", "."} {
		if err := web.Put(t.Context(), name, strings.NewReader("x"), 1); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := web.Put(t.Context(), "x", strings.NewReader("more"), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("more than none: %v", err)
	}
	if err := web.Put(t.Context(), "x", strings.NewReader("more"), 2); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("more than said: %v", err)
	}
}

func TestDeleteAnswers(t *testing.T) {
	for code, deleted := range map[int]bool{200: true, 204: true, 404: true, 410: true, 403: false, 405: false, 500: false} {
		web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
			if r.Method != nethttp.MethodDelete || r.URL.Path != "/d/file" {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			w.WriteHeader(code)
		}).URL+"/d", http.Options{})
		err := web.Delete(t.Context(), "file")
		if (err == nil) != deleted {
			t.Errorf("%d: %v", code, err)
		}
		if err != nil && errors.Is(err, store.ErrRefused) != slices.Contains([]int{403, 405}, code) {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// TestPutCancelled leaves at once, in the middle of what is sent.
func TestPutCancelled(t *testing.T) {
	arrived := make(chan struct{})
	server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		io.ReadFull(r.Body, make([]byte, 1))
		close(arrived)
		io.Copy(io.Discard, r.Body)
	})
	web := newWeb(t, server.URL, http.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	go func() {
		w.Write([]byte("x"))
		<-arrived
		cancel()
		w.CloseWithError(errors.New("nobody reads")) // as the source of a run that is over
	}()
	if err := web.Put(ctx, "file", r, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestDeleteReadersOnly meets a server that answers a DELETE as if it were a GET.
func TestDeleteReadersOnly(t *testing.T) {
	web := newWeb(t, files(t, map[string]string{"d/file": "content"}).URL+"/d", http.Options{})
	if err := web.Delete(t.Context(), "file"); !errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

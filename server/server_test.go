package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"caravel/server"
	"caravel/store"
)

// failingBlobs has nothing.
type failingBlobs struct{}

func (failingBlobs) String() string { return "nothing" }
func (failingBlobs) Open(context.Context, string, store.Range) (io.ReadCloser, store.Info, error) {
	return nil, store.Info{}, store.ErrMissing
}

// A running server.
type running struct {
	*server.Server
	addr string
	end  func() error // has it end, and waits for that
}

func run(t testing.TB, h http.Handler, opt server.Options) running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return runOn(t, l, h, opt)
}

func runOn(t testing.TB, l net.Listener, h http.Handler, opt server.Options) running {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := server.New(h, opt)
	go func() { ended <- s.Serve(ctx, l) }()
	end := func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { end() })
	return running{s, l.Addr().String(), end}
}

// dial connects and sends text.
func (r running) dial(t *testing.T, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// closed reports whether the other side has closed a connection, within a time.
func closed(c net.Conn, limit time.Duration) bool {
	_ = c.SetReadDeadline(time.Now().Add(limit))
	for b := make([]byte, 64<<10); ; {
		if _, err := c.Read(b); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello "+r.Proto) })

func TestProtocols(t *testing.T) {
	plain := run(t, hello, server.Options{})
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS()
	defer borrowed.Close()
	secure := run(t, hello, server.Options{TLS: &tls.Config{Certificates: borrowed.TLS.Certificates}})
	for _, tt := range []struct {
		url    string
		which  func(*http.Protocols)
		answer string
	}{
		{"http://" + plain.addr, func(p *http.Protocols) { p.SetHTTP1(true) }, "hello HTTP/1.1"},
		{"http://" + plain.addr, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, "hello HTTP/2.0"},
		{"https://" + secure.addr, func(p *http.Protocols) { p.SetHTTP1(true) }, "hello HTTP/1.1"},
		{"https://" + secure.addr, func(p *http.Protocols) { p.SetHTTP2(true) }, "hello HTTP/2.0"},
	} {
		tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: borrowed.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
		tt.which(tr.Protocols)
		resp, err := (&http.Client{Transport: tr}).Get(tt.url)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		if string(b) != tt.answer {
			t.Errorf("%s: %q, not %q", tt.url, b, tt.answer)
		}
	}
}

// TestCrowd has ten times as many connections as there may be, which do nothing or send
// a header that never ends; who asks for something is served.
func TestCrowd(t *testing.T) {
	s := run(t, hello, server.Options{Conns: 20})
	var crowd []net.Conn
	for i := range 200 {
		crowd = append(crowd, s.dial(t, []string{"", "GET / HTTP/1.1\r\nX: "}[i%2]))
	}
	for range 50 {
		c := s.dial(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	gone := 0
	for _, c := range crowd[:150] {
		if closed(c, 5*time.Second) {
			gone++
		}
	}
	if gone < 150 {
		t.Errorf("only %d of the first 150 had to go", gone)
	}
	page := ask(metricsOf(s), "GET", "/metrics", nil).Body.String()
	if !strings.Contains(page, "caravel_http_connections_max 20\n") {
		t.Errorf("%s", page)
	}
}

// metricsOf asks a running server.
func metricsOf(s running) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get("http://" + s.addr + r.URL.Path)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	})
}

// TestSlow has clients that are too slow with a header, a body, and with an answer.
func TestSlow(t *testing.T) {
	gone := make(chan struct{}, 1)
	s := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			return
		}
		defer func() { gone <- struct{}{} }()
		_, _ = io.CopyN(w, zeros{}, 1<<40)
	}), server.Options{Stall: 300 * time.Millisecond})
	for _, text := range []string{"", "GET / HTTP/1.1\r\nX: ", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"} {
		if !closed(s.dial(t, text), 10*time.Second) {
			t.Errorf("%q may stay", text)
		}
	}
	s.dial(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // reads nothing
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Error("who reads nothing may stay")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestGrace answers what was asked before the end, and nothing after it.
func TestGrace(t *testing.T) {
	before := runtime.NumGoroutine()
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-goOn
		hello(w, r)
	}), server.Options{Grace: time.Minute})
	c := s.dial(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	ended := make(chan error)
	go func() { ended <- s.end() }()
	for { // it does not listen any more
		late, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		late.Close()
	}
	close(goOn)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, before %d", runtime.NumGoroutine(), before)
}

// TestGraceOver cuts off what takes longer.
func TestGraceOver(t *testing.T) {
	begun := make(chan struct{})
	s := run(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}), server.Options{Grace: 10 * time.Millisecond})
	s.dial(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestAuth(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("pass:word"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a, err := server.NewAuth([]string{"Bearer token"}, strings.NewReader("# who may\n\nanna:"+string(hash)+"\nbert:{PLAIN}secret\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := run(t, hello, server.Options{Auth: a})
	basic := func(name, password string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(name, password)
		return r.Header.Get("Authorization")
	}
	for header, status := range map[string]int{
		"": 401, "Bearer token": 200, "Bearer toke": 401, "Bearer token ": 200, "token": 401, "bearer token": 401, "Basic x": 401,
		basic("anna", "pass:word"): 200, basic("bert", "secret"): 200, basic("anna", "secret"): 401, basic("bert", ""): 401,
		basic("bert", "{PLAIN}secret"): 401, basic("", ""): 401, basic("carl", "secret"): 401, basic("anna", string(hash)): 401,
	} {
		for range 2 {
			for path, want := range map[string]int{"/x": status, "/metrics": status, "/healthz": 200} {
				r, _ := http.NewRequest("GET", "http://"+s.addr+path, nil)
				if header != "" {
					r.Header.Set("Authorization", header)
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != want || (want == 401) != (resp.Header.Get("WWW-Authenticate") != "") {
					t.Errorf("%q of %s: %d, not %d; %v", header, path, resp.StatusCode, want, resp.Header)
				}
			}
		}
	}
	for _, users := range []string{"anna", ":x", "anna:secret", "anna:{SHA}x"} {
		if _, err := server.NewAuth(nil, strings.NewReader(users)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", users, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	var lines bytes.Buffer
	s := run(t, hello, server.Options{
		Gauge: func() []server.Gauge {
			return []server.Gauge{{Name: "x_total", Help: "X.", Labels: `a="b"`, Value: func() float64 { return 1.5 }}, {Name: "x_total", Value: func() float64 { return 2 }}}
		},
		Requests: log.New(&lines, "", 0),
	})
	for _, method := range []string{"GET", "HEAD", "PUT", "BREW", "MAKE"} {
		r, _ := http.NewRequest(method, "http://"+s.addr+"/a%20b?secret=1", nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	page := ask(metricsOf(s), "GET", "/metrics", nil).Body.String()
	for _, want := range []string{
		`caravel_http_requests_total{method="GET",code="200"} 1`, `caravel_http_requests_total{method="other",code="200"} 2`,
		"caravel_http_response_bytes_total ", `caravel_http_request_duration_seconds_bucket{le="+Inf"} 5`, "caravel_http_request_duration_seconds_count 5",
		"# TYPE x_total counter\nx_total{a=\"b\"} 1.5\nx_total 2\n", "caravel_http_connections ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}
	for line := range strings.Lines(page) {
		var value float64
		name, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		if _, err := fmt.Sscan(text, &value); name != "#" && (!ok || err != nil) {
			t.Errorf("%q", line)
		}
	}
	_ = s.end()
	// The lines are whole: the server has ended.
	if got := lines.String(); !strings.Contains(got, "Request: GET /a%20b, Response: 200\n") || strings.Contains(got, "secret") {
		t.Errorf("%s", got)
	}
}

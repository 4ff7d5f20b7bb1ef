package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"caravel/server"
	"caravel/store"
	"caravel/store/local"
)

// A big is a server of one chunk that is sent from its file, and not from memory.
type big struct {
	running
	file  string
	get   string // the request
	plain []byte
}

func newBig(t *testing.T, size int, opt server.Options) big {
	t.Helper()
	raw := store.Form{Compression: store.None}
	_, plain := piece(1, min(size, 100_003))
	plain = bytes.Repeat(plain, size/len(plain)+1)[:size]
	dir, id := filled(t, raw, plain)
	h := server.NewChunks(failing{store.ErrMissing}, server.ChunkOptions{Form: raw, Files: []server.Files{local.New(dir, local.Options{})}})
	name := raw.Name(id)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return big{runOn(t, tight{l}, h, opt), filepath.Join(dir, filepath.FromSlash(name)), "GET /" + name + " HTTP/1.1\r\nHost: x\r\n\r\n", plain}
}

// A tight listener's connections have the kernel keep little of what is sent.
type tight struct{ net.Listener }

func (l tight) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
	}
	return c, err
}

// gets asks on a connection, and reports whether the chunk comes.
func (b big) gets(t *testing.T, c net.Conn) bool {
	t.Helper()
	if _, err := io.WriteString(c, b.get); err != nil {
		return false
	}
	return b.comes(t, c)
}

// comes reports whether the chunk comes.
func (b big) comes(t *testing.T, c io.Reader) bool {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return err == nil && bytes.Equal(got, b.plain)
}

// open is how many connections a server has.
func (r running) open() int { return r.figure("connections") }

// figure is one of the server's.
func (r running) figure(name string) (n int) {
	page := ask(metricsOf(r), "GET", "/metrics", nil).Body.String()
	_, text, _ := strings.Cut(page, "\ncaravel_http_"+name+" ")
	_, _ = fmt.Sscan(text, &n)
	return n
}

// rests waits until no connection serves a request, but for the one that asks.
func (r running) rests(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); r.figure("connections_idle") != r.open()-1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("some connections never rest")
		}
	}
}

// TestShortWaySizes has chunks of every kind of size come by the short way.
func TestShortWaySizes(t *testing.T) {
	for _, size := range []int{1, 3, 4, 1000, 100_000, 272 << 10, 272<<10 + 1, 5_000_000} {
		b := newBig(t, size, server.Options{})
		c := b.dial(t, "")
		if first := b.gets(t, c); !first || !b.gets(t, c) || b.direct() != 2 {
			t.Errorf("%d bytes: %d by the short way", size, b.direct())
		}
	}
}

func TestShortWayAuth(t *testing.T) {
	a, err := server.NewAuth([]string{"Bearer token"}, strings.NewReader("bert:{PLAIN}secret\n"))
	if err != nil {
		t.Fatal(err)
	}
	two := newTwin(t, server.Options{Auth: a})
	for _, tt := range []struct {
		header string
		status int
		direct int
	}{
		{"", 401, 0},
		{"Authorization: Bearer token\r\n", 200, 1},
		{"authorization: Bearer token\r\n", 200, 1},
		{"Authorization: Bearer toke\r\n", 401, 0},
		{"Authorization: Bearer token\r\nAuthorization: Bearer token\r\n", 200, 0},
		{"Authorization: Basic YmVydDpzZWNyZXQ=\r\n", 200, 0}, // bert:secret
		{"Authorization: Basic YmVydDpzZWNyZXQ=\r\n", 200, 1}, // who is known now
		{"Authorization: Basic YmVydDpzZWNyZXx=\r\n", 401, 0},
	} {
		before := two.short.metrics(t, "Bearer token")
		c := two.short.dial(t, "GET "+two.path+" HTTP/1.1\r\nHost: x\r\n"+tt.header+"\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != tt.status || two.short.metrics(t, "Bearer token")-before != tt.direct {
			t.Errorf("%q: %v, %v", tt.header, resp, err)
		}
	}
}

// metrics is direct for who may know.
func (r running) metrics(t *testing.T, authorization string) (n int) {
	t.Helper()
	req, _ := http.NewRequest("GET", "http://"+r.addr+"/metrics", nil)
	req.Header.Set("Authorization", authorization)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, _ := io.ReadAll(resp.Body)
	_, text, _ := strings.Cut(string(page), "\ncaravel_http_direct_total ")
	_, _ = fmt.Sscan(text, &n)
	return n
}

// TestShortWayCrowd has the longest idle go, whichever way it was answered.
func TestShortWayCrowd(t *testing.T) {
	b := newBig(t, 1000, server.Options{Conns: 20})
	var crowd []net.Conn
	for i := range 100 {
		c := b.dial(t, "")
		if i%3 > 0 && !b.gets(t, c) {
			t.Fatalf("client %d is not served", i)
		}
		b.rests(t) // an answer comes before its client is taken for idle
		crowd = append(crowd, c)
	}
	for i, c := range crowd[:75] {
		if !closed(c, 5*time.Second) {
			t.Errorf("client %d may stay", i)
		}
	}
	if n := b.open(); n > 20 {
		t.Errorf("%d connections", n)
	}
}

// TestShortWaySlow has clients that ask for nothing, and that take nothing.
func TestShortWaySlow(t *testing.T) {
	for _, size := range []int{200_000, 4_000_000} {
		b := newBig(t, size, server.Options{Stall: 300 * time.Millisecond})
		if !closed(b.dial(t, ""), 10*time.Second) {
			t.Error("who asks for nothing may stay")
		}
		for range 200 { // more than there are buffers
			b.dial(t, strings.Repeat(b.get, 10))
		}
		if !b.gets(t, b.dial(t, "")) {
			t.Error("others are not served meanwhile")
		}
		for deadline := time.Now().Add(20 * time.Second); b.open() > 10; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d may stay who take nothing", b.open())
			}
		}
	}
}

// TestShortWayShrinks cuts a connection when the file has less than what was said.
func TestShortWayShrinks(t *testing.T) {
	b := newBig(t, 8<<20, server.Options{})
	c := b.dial(t, b.get)
	r := bufio.NewReader(c)
	if _, err := r.Peek(1000); err != nil { // it has begun
		t.Fatal(err)
	}
	if err := os.Truncate(b.file, 4<<20); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.ContentLength != 8<<20 {
		t.Fatalf("%v, %v", resp, err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n >= 8<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestShortWayEnds closes idle connections at once, has those that are answered go on
// until the end of the grace, and leaves nothing behind.
func TestShortWayEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	b := newBig(t, 8<<20, server.Options{Grace: time.Minute})
	idle, slow := b.dial(t, ""), b.dial(t, "")
	if !b.gets(t, idle) {
		t.Fatal("not served")
	}
	fresh := b.dial(t, "")
	if _, err := io.WriteString(slow, b.get); err != nil {
		t.Fatal(err)
	}
	begun := bufio.NewReader(slow)
	if _, err := begun.Peek(1); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.end() }()
	if !closed(idle, 10*time.Second) || !closed(fresh, 10*time.Second) {
		t.Error("idle connections may stay")
	}
	if !b.comes(t, begun) {
		t.Error("what was begun does not come")
	}
	if !closed(slow, 10*time.Second) {
		t.Error("more may be asked for")
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

// TestShortWayCut ends what takes longer than the grace.
func TestShortWayCut(t *testing.T) {
	b := newBig(t, 8<<20, server.Options{Grace: 10 * time.Millisecond})
	c := b.dial(t, b.get)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.end(); err != nil {
		t.Error(err)
	}
}

// TestShortWayLog has the same line as ever.
func TestShortWayLog(t *testing.T) {
	var lines bytes.Buffer
	b := newBig(t, 1000, server.Options{Requests: log.New(&lines, "", 0)})
	c := b.dial(t, "")
	if !b.gets(t, c) {
		t.Fatal("not served")
	}
	path := strings.Fields(b.get)[1]
	// What was asked on the same connection is answered after the first was counted.
	if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	page := string(text)
	for _, want := range []string{`caravel_http_requests_total{method="GET",code="200"} 1` + "\n", "caravel_http_response_bytes_total 1000\n", "caravel_http_request_duration_seconds_count 1\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}
	_ = b.end() // then the lines are whole
	if want := fmt.Sprintf("Client: %v, Request: GET %s, Response: 200\n", c.LocalAddr(), path); !strings.HasPrefix(lines.String(), want) {
		t.Errorf("%q, not %q", lines.String(), want)
	}
}

// BenchmarkChunk is one client that asks for a chunk of 20 KB again and again, and has
// package net/http as its like.
func BenchmarkChunk(b *testing.B) {
	two := newTwin(b, server.Options{})
	for name, s := range map[string]running{"short way": two.short, "net/http": two.long} {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			answers := bufio.NewReaderSize(c, 64<<10)
			b.SetBytes(int64(len(two.chunk)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(c, "GET "+two.path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(answers, nil)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(two.chunk)) {
					b.Fatalf("%d bytes, %v", n, err)
				}
			}
		})
	}
}

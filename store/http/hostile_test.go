package http_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	nethttp "net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/http"
)

// wired makes a Web whose server is a function that is given each connection
// after it has read the request. It works inside a synctest bubble.
func wired(t *testing.T, opt http.Options, serve func(conn net.Conn)) *http.Web {
	t.Helper()
	var servers sync.WaitGroup
	t.Cleanup(servers.Wait)
	opt.Client = &nethttp.Client{Transport: &nethttp.Transport{
		MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			servers.Go(func() {
				defer far.Close()
				if _, err := nethttp.ReadRequest(bufio.NewReader(far)); err == nil {
					serve(far)
				}
			})
			return near, nil
		},
	}}
	return newWeb(t, "http://host/d", opt)
}

func say(text string) func(net.Conn) {
	return func(conn net.Conn) { io.WriteString(conn, text) }
}

func TestAnswersThatDoNotFit(t *testing.T) {
	r := store.Range{Off: 2, Len: 3}
	tests := []struct {
		name   string
		r      store.Range
		answer string
		want   string // in the error
		kind   error
	}{
		{"short body", store.Range{}, "200 OK\r\nContent-Length: 10\r\n\r\nshort", "unexpected EOF", io.ErrUnexpectedEOF},
		{"short chunked body", store.Range{}, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", "unexpected EOF", io.ErrUnexpectedEOF},
		{"broken chunked body", store.Range{}, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx", "chunk length too large", nil},
		{"negative length", store.Range{}, "200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length", nil},
		{"two lengths", store.Range{}, "200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "Content-Length", nil},
		{"no HTTP", store.Range{}, "hello", "malformed HTTP", nil},
		{"nothing", store.Range{}, "", "EOF", nil},
		{"endless header", store.Range{}, "200 OK\r\nX: " + strings.Repeat("x", 1<<20), "server response headers exceeded", nil},
		{"gzip", store.Range{}, "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", `Content-Encoding "gzip"`, store.ErrRefused},
		{"range in gzip", r, "206 P\r\nContent-Encoding: gzip\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\nxxx", `Content-Encoding "gzip"`, store.ErrRefused},
		{"range not asked for", store.Range{}, "206 P\r\nContent-Range: bytes 0-0/1\r\nContent-Length: 1\r\n\r\nx", "206", store.ErrRefused},
		{"no Content-Range", r, "206 P\r\nContent-Length: 3\r\n\r\nxxx", "asked for bytes=2-4", store.ErrRefused},
		{"other range", r, "206 P\r\nContent-Range: bytes 0-2/10\r\nContent-Length: 3\r\n\r\nxxx", `"bytes 0-2/10"`, store.ErrRefused},
		{"longer range", r, "206 P\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4\r\n\r\nxxxx", `"bytes 2-5/10"`, store.ErrRefused},
		{"shorter range", r, "206 P\r\nContent-Range: bytes 2-3/10\r\nContent-Length: 2\r\n\r\nxx", `"bytes 2-3/10"`, store.ErrRefused},
		{"shorter range of unknown", r, "206 P\r\nContent-Range: bytes 2-3/*\r\nContent-Length: 2\r\n\r\nxx", `"bytes 2-3/*"`, store.ErrRefused},
		{"range behind the end", r, "206 P\r\nContent-Range: bytes 2-4/3\r\nContent-Length: 3\r\n\r\nxxx", `"bytes 2-4/3"`, store.ErrRefused},
		{"range with other length", r, "206 P\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 9\r\n\r\nxxxxxxxxx", "with 9 bytes", store.ErrRefused},
		{"short range", r, "206 P\r\nContent-Range: bytes 2-4/10\r\n\r\nx", "unexpected EOF", io.ErrUnexpectedEOF},
		{"several ranges", r, "206 P\r\nContent-Type: multipart/byteranges; boundary=x\r\n\r\n--x", "asked for bytes=2-4", store.ErrRefused},
		{"behind the end", r, "416 N\r\nContent-Range: bytes */1\r\nContent-Length: 0\r\n\r\n", "bytes=2-4 is behind the end", store.ErrRefused},
		{"416 without size", r, "416 N\r\nContent-Length: 0\r\n\r\n", "bytes=2-4 is behind the end", store.ErrRefused},
		{"no ranges, too short", r, "200 OK\r\nContent-Length: 1\r\n\r\nx", "bytes=2-4 is behind the end", store.ErrRefused},
		{"no ranges, too short, no length", r, "200 OK\r\n\r\nx", "behind the end, which is at 1", store.ErrRefused},
		{"no ranges, cut", r, "200 OK\r\nContent-Length: 10\r\n\r\nx", "unexpected EOF", io.ErrUnexpectedEOF},
		{"no ranges, far", store.Range{Off: 2 << 20, Len: 1}, "200 OK\r\nContent-Length: 3000000\r\n\r\n", "the server gives no ranges", store.ErrRefused},
		{"range overflows", store.Range{Off: 1, Len: 1<<63 - 1}, "", "no range", nil},
		{"negative range", store.Range{Off: -1}, "", "no range", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer := tt.answer
			if tt.name != "no HTTP" && tt.name != "nothing" {
				answer = "HTTP/1.1 " + answer
			}
			web := wired(t, http.Options{}, say(answer))
			got, _, err := read(t.Context(), web, "file", tt.r)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "http://host/d/file: ") {
				t.Errorf("got %q, error %v; want the URL and %q in it", got, err, tt.want)
			}
			if tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Errorf("got %v, want one that is %v", err, tt.kind)
			}
			if tt.kind == nil && (errors.Is(err, store.ErrRefused) || errors.Is(err, store.ErrMissing)) {
				t.Errorf("got %v, want one that is worth another try", err)
			}
		})
	}
}

// A server without ranges is good enough if little is thrown away.
func TestRangesBySkipping(t *testing.T) {
	for _, length := range []string{"Content-Length: 10\r\n", ""} {
		web := wired(t, http.Options{}, say("HTTP/1.1 200 OK\r\n"+length+"\r\n0123456789"))
		for r, want := range map[store.Range]string{
			{Off: 2, Len: 3}: "234", {Off: 8}: "89", {Off: 8, Len: 9}: "89", {Off: 10, Len: 1}: "", {Len: 1}: "0",
		} {
			if got, _, err := read(t.Context(), web, "file", r); err != nil || got != want {
				t.Errorf("%+v, %q: got %q, error %v; want %q", r, length, got, err, want)
			}
		}
	}
}

// A body that does not end gives a caller what it reads, and ends with Close.
func TestEndlessBody(t *testing.T) {
	closed := make(chan struct{})
	web := wired(t, http.Options{}, func(conn net.Conn) {
		defer close(closed)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for err := error(nil); err == nil; {
			_, err = conn.Write(make([]byte, 4096))
		}
	})
	body, info, err := web.Open(t.Context(), "file", store.Range{})
	if err != nil || info.Size != -1 {
		t.Fatalf("size %d, error %v; want -1", info.Size, err)
	}
	if _, err := io.CopyN(io.Discard, body, 1<<20); err != nil {
		t.Error(err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	<-closed
}

func TestStall(t *testing.T) {
	const stall = 30 * time.Second
	const header = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
	drip := func(conn net.Conn, n int, pause time.Duration) {
		for err := error(nil); err == nil; time.Sleep(pause) {
			_, err = conn.Write(make([]byte, n))
		}
	}
	tests := []struct {
		name  string
		serve func(net.Conn)
		want  time.Duration
		text  string
	}{
		{"no answer", func(conn net.Conn) { io.Copy(io.Discard, conn) }, stall, "stalled: no answer in 30s"},
		{"slow header", func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
			drip(conn, 1, time.Second)
		}, stall, "stalled: no answer in 30s"},
		{"no body", func(conn net.Conn) {
			io.WriteString(conn, header)
			io.Copy(io.Discard, conn)
		}, stall, "stalled: less than 1024 bytes came in 30s"},
		{"half a body", func(conn net.Conn) {
			io.WriteString(conn, header+strings.Repeat("x", 5000))
			io.Copy(io.Discard, conn)
		}, stall, "stalled: less than 1024 bytes came in 30s"},
		{"trickle", func(conn net.Conn) {
			io.WriteString(conn, header)
			drip(conn, 10, time.Second)
		}, stall, "stalled: less than 1024 bytes came in 30s"},
		{"text of an error", func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 500 E\r\nContent-Type: text/plain\r\n\r\n")
			drip(conn, 1, time.Second)
		}, 2*time.Second + 50*time.Millisecond, "500 Internal Server Error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := wired(t, http.Options{Stall: stall}, tt.serve)
				began := time.Now()
				_, _, err := read(t.Context(), web, "file", store.Range{})
				if err == nil || !strings.Contains(err.Error(), tt.text) || errors.Is(err, store.ErrRefused) {
					t.Errorf("got %v, want %q in it", err, tt.text)
				}
				if took := time.Since(began); took > tt.want+time.Second {
					t.Errorf("took %v, want %v", took, tt.want)
				}
			})
		})
	}
}

// Slow is not stalled, and neither is a caller that takes its time.
func TestSlowIsFine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pieces = 20
		web := wired(t, http.Options{Stall: 30 * time.Second}, func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 20480\r\n\r\n")
			for range pieces {
				time.Sleep(25 * time.Second)
				conn.Write(make([]byte, 1024))
			}
		})
		body, _, err := web.Open(t.Context(), "file", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		for range pieces {
			time.Sleep(time.Hour)
			if _, err := io.ReadFull(body, make([]byte, 1024)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{}, 2)
		web := wired(t, http.Options{}, func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
			io.Copy(io.Discard, conn)
			closed <- struct{}{}
		})
		ctx, cancel := context.WithCancel(t.Context())
		body, _, err := web.Open(ctx, "file", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) || time.Since(began) > time.Second {
			t.Errorf("got %v after %v, want context.Canceled after 1s", err, time.Since(began))
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
		<-closed
		if _, _, err := web.Open(ctx, "file", store.Range{}); !errors.Is(err, context.Canceled) {
			t.Errorf("after cancel: got %v", err)
		}
	})
}

// Close throws little away to save a connection, and never waits for long.
func TestCloseIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := wired(t, http.Options{}, func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
			io.Copy(io.Discard, conn)
		})
		body, _, err := web.Open(t.Context(), "file", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := body.Close(); err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("took %v, error %v", time.Since(began), err)
		}
	})
}

package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"caravel/server"
	"caravel/store"
	"caravel/store/local"
)

// A twin is a server that answers by the short way where it can, and one of the same
// chunks that has only net/http.
type twin struct {
	short, long running
	path        string // of a chunk
	chunk       []byte
}

func newTwin(t testing.TB, opt server.Options) twin {
	id, plain := piece(1, 20_000)
	dir, _ := filled(t, store.Form{}, plain)
	h := server.NewChunks(store.Verify(store.Chunks(local.New(dir, local.Options{}), store.Form{})),
		server.ChunkOptions{Files: []server.Files{local.New(dir, local.Options{})}})
	chunk, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(store.Form{}.Name(id))))
	if err != nil {
		t.Fatal(err)
	}
	return twin{
		short: run(t, h, opt),
		long:  run(t, http.HandlerFunc(h.ServeHTTP), opt),
		path:  "/" + store.Form{}.Name(id),
		chunk: chunk,
	}
}

// direct is how many requests were answered by the short way.
func (r running) direct() int { return r.figure("direct_total") }

// goodbye is a request after which the server closes.
const goodbye = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

var dates = regexp.MustCompile(`(?m)^Date: (\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)\r$`)

// exchange sends pieces, and returns all that comes, without the dates.
func (r running) exchange(pieces ...string) (string, error) {
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var all bytes.Buffer
	var reading sync.WaitGroup
	var failed error
	reading.Go(func() {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, failed = io.Copy(&all, c)
	})
	for _, piece := range pieces {
		if _, err := io.WriteString(c, piece); err != nil {
			break // it has been answered enough
		}
	}
	reading.Wait()
	return dates.ReplaceAllString(all.String(), "Date: now\r"), failed
}

// split is text a byte at a time.
func split(text string) []string { return strings.Split(text, "") }

// TestSameAnswers has both ways give the same bytes, whatever is asked for, and be
// taken where they should.
func TestSameAnswers(t *testing.T) {
	two := newTwin(t, server.Options{Stall: 5 * time.Second})
	get := "GET " + two.path + " HTTP/1.1\r\nHost: x\r\n\r\n"
	with := func(headers string) string { return "GET " + two.path + " HTTP/1.1\r\n" + headers + "\r\n" }
	for _, tt := range []struct {
		name   string
		sent   []string
		direct int // of the answers
	}{
		{"plain", []string{get}, 1},
		{"again and again", []string{get, get, get}, 3},
		{"all at once", []string{get + get + get + get}, 4},
		{"a byte at a time", split(get), -1},
		{"in two", []string{get[:100], get[100:]}, -1},
		{"cut short behind one", []string{get + get[:50], get[50:]}, -1},
		{"curl", []string{with("Host: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n")}, 1},
		{"casync", []string{with("Host: localhost\r\nAccept: */*\r\n")}, 1},
		{"Go", []string{with("Host: [::1]:80\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n")}, 1},
		{"caravel", []string{with("Host: a\r\nUser-Agent: caravel\r\nAccept-Encoding: identity\r\n")}, 1},
		{"nginx", []string{with("Host: a\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nConnection: keep-alive\r\n")}, 1},
		{"other letters", []string{with("hOST: a\r\nUSER-AGENT: b\r\nconnection: Keep-Alive\r\n")}, 1},
		{"a user nobody asks for", []string{with("Host: a\r\nAuthorization: Basic x\r\n")}, 1},
		{"plain, unusual, plain", []string{get + with("Host: a\r\nRange: bytes=1-5\r\n") + get}, 1},
		{"unusual, plain", []string{with("Host: a\r\nX: y\r\n") + get}, 0},
		{"plain, missing, plain", []string{get + strings.Replace(get, two.path[1:6], "0000/", 1) + get}, 1},
		{"range", []string{with("Host: a\r\nRange: bytes=1-5\r\n")}, 0},
		{"if", []string{with("Host: a\r\nIf-None-Match: *\r\n")}, 0},
		{"since", []string{with("Host: a\r\nIf-Modified-Since: Mon, 02 Jan 2034 15:04:05 GMT\r\n")}, 0},
		{"expect", []string{with("Host: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n") + "x"}, 0},
		{"body", []string{with("Host: a\r\nContent-Length: 5\r\n") + "GET /" + get}, 0},
		{"body in pieces", []string{with("Host: a\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + get}, 0},
		{"both lengths", []string{with("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + get}, 0},
		{"close", []string{with("Host: a\r\nConnection: close\r\n")}, 0},
		{"close and keep", []string{with("Host: a\r\nConnection: close, keep-alive\r\n")}, 0},
		{"upgrade", []string{with("Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n")}, 0},
		{"no host", []string{with("")}, 0},
		{"empty host", []string{with("Host: \r\n")}, 0},
		{"two hosts", []string{with("Host: a\r\nHost: a\r\n")}, 0},
		{"odd host", []string{with("Host: a/b\r\n")}, 0},
		{"odder host", []string{with("Host: a b\r\n")}, 0},
		{"no space", []string{with("Host:a\r\n")}, 0},
		{"two spaces", []string{with("Host:  a\r\n")}, 0},
		{"space behind", []string{with("Host: a \r\n")}, 0},
		{"space before the colon", []string{with("Host : a\r\n")}, 0},
		{"folded", []string{with("Host: a\r\nAccept: b\r\n c\r\n")}, 0},
		{"folded first", []string{with(" Host: a\r\n")}, 0},
		{"tab", []string{with("Host: a\r\nAccept:\tb\r\n")}, 0},
		{"control", []string{with("Host: a\r\nAccept: b\x01\r\n")}, 0},
		{"zero", []string{with("Host: a\r\nAccept: b\x00\r\n")}, 0},
		{"beyond ASCII", []string{with("Host: a\r\nAccept: \xc3\xa4\r\n")}, 0},
		{"no colon", []string{with("Host: a\r\nAccept\r\n")}, 0},
		{"nothing before the colon", []string{with("Host: a\r\n: b\r\n")}, 0},
		{"line feeds", []string{strings.ReplaceAll(get, "\r\n", "\n")}, 0},
		{"a line feed", []string{"GET " + two.path + " HTTP/1.1\nHost: x\r\n\r\n"}, 0},
		{"carriage returns", []string{strings.ReplaceAll(get, "\r\n", "\r")}, 0},
		{"one inside", []string{with("Host: a\r\nAccept: b\rContent-Length: 5\r\n")}, 0},
		{"empty lines before", []string{"\r\n\r\n" + get}, 0},
		{"HTTP/1.0", []string{"GET " + two.path + " HTTP/1.0\r\nHost: x\r\n\r\n"}, 0},
		{"HTTP/1.2", []string{"GET " + two.path + " HTTP/1.2\r\nHost: x\r\n\r\n"}, 0},
		{"HTTP/0.9", []string{"GET " + two.path + "\r\n\r\n"}, 0},
		{"http", []string{"GET " + two.path + " http/1.1\r\nHost: x\r\n\r\n"}, 0},
		{"get", []string{"get " + two.path + " HTTP/1.1\r\nHost: x\r\n\r\n"}, 0},
		{"HEAD", []string{strings.Replace(get, "GET", "HEAD", 1)}, 0},
		{"POST", []string{strings.Replace(get, "GET", "POST", 1)}, 0},
		{"two spaces in the line", []string{strings.Replace(get, "GET ", "GET  ", 1)}, 0},
		{"query", []string{strings.Replace(get, " HTTP", "?x HTTP", 1)}, 0},
		{"escaped", []string{strings.Replace(get, "/", "/%2e/", 1)}, 0},
		{"escaped digit", []string{strings.Replace(get, two.path[:2], fmt.Sprintf("/%%%x", two.path[1]), 1)}, 0},
		{"whole URL", []string{strings.Replace(get, "/", "http://x/", 1)}, 0},
		{"two slashes", []string{strings.Replace(get, "/", "//", 1)}, 0},
		{"upwards", []string{strings.Replace(get, "/", "/x/../", 1)}, 0},
		{"upper case", []string{strings.Replace(get, two.path, strings.ToUpper(two.path), 1)}, 0},
		{"another ending", []string{strings.Replace(get, ".cacnk", ".cacnj", 1)}, 0},
		{"asterisk", []string{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"}, 0},
		{"nonsense", []string{"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"}, 0},
		{"very long", []string{with("Host: a\r\nAccept: " + strings.Repeat("a", 5000) + "\r\n")}, 0},
		{"too long", []string{with("Host: a\r\nAccept: " + strings.Repeat("a", 50_000) + "\r\n")}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := two.short.direct()
			sent := append(tt.sent, goodbye)
			short, failedShort := two.short.exchange(sent...)
			long, failedLong := two.long.exchange(sent...)
			reset := errors.Is(failedShort, syscall.ECONNRESET) || errors.Is(failedLong, syscall.ECONNRESET)
			if short != long && !reset || failedShort != nil && failedLong == nil && !reset {
				t.Errorf("the short way gives %.600q, %v\nthe long one %.600q, %v", short, failedShort, long, failedLong)
			}
			if n := two.short.direct() - before; n != tt.direct && tt.direct >= 0 {
				t.Errorf("%d answers by the short way, not %d", n, tt.direct)
			}
			if tt.direct > 0 && strings.Count(short, string(two.chunk)) < tt.direct {
				t.Errorf("where is the chunk? %.600q", short)
			}
		})
	}
}

// FuzzSameAnswers has net/http alone say what is right.
func FuzzSameAnswers(f *testing.F) {
	two := newTwin(f, server.Options{Stall: time.Second})
	get := "GET " + two.path + " HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, seed := range []string{
		get, get + get, get + get[:20],
		strings.Replace(get, "\r\n\r\n", "\r\nUser-Agent: x\r\nAccept: */*\r\nAuthorization: y\r\nConnection: keep-alive\r\n\r\n", 1),
		strings.Replace(get, "\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n", 1) + get,
		strings.Replace(get, "\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1) + get,
		strings.Replace(get, "\r\n\r\n", "\r\nRange: bytes=0-9\r\n\r\n", 1) + get,
		strings.Replace(get, "GET", "HEAD", 1) + get, strings.Replace(get, "GET", "PUT", 1), "\r\n" + get,
	} {
		f.Add([]byte(seed), uint16(30))
	}
	f.Fuzz(func(t *testing.T, sent []byte, cut uint16) {
		if bytes.Contains(sent, []byte("PRI * HTTP/2.0")) {
			return // by HTTP/2, answers to many questions come in any order
		}
		at := min(int(cut), len(sent))
		pieces := []string{string(sent[:at]), string(sent[at:]), "\r\n\r\n" + goodbye}
		var short, long string
		for range 5 {
			var failed [2]error
			var both sync.WaitGroup
			both.Go(func() { short, failed[0] = two.short.exchange(pieces...) })
			both.Go(func() { long, failed[1] = two.long.exchange(pieces...) })
			both.Wait()
			if short == long {
				return
			}
			if failed == [2]error{} {
				t.Fatalf("the short way gives %q\nthe long one %q", short, long)
			}
		}
		// To a client that sent too much, what was on its way may be lost.
		if !strings.HasPrefix(short, long) && !strings.HasPrefix(long, short) {
			t.Errorf("the short way gives %q\nthe long one %q", short, long)
		}
	})
}

//go:build linux

package integration

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startServer runs one of the commands that serve over HTTP, and returns its URL, which
// ends in a slash.
func startServer(t testing.TB, args ...string) (*daemon, string) {
	t.Helper()
	d := start(t, caravel, append(args, "--listen=127.0.0.1:0")...)
	return d, d.expect("Serving: ")
}

// answered asks for something, and returns the answer with its body read.
func answered(t testing.TB, method, url string, body io.Reader, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if u := r.URL.User; u != nil {
		password, _ := u.Password()
		r.SetBasicAuth(u.Username(), password)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp, b
}

// TestChunkServer has every client read from one, and desync's write to it.
func TestChunkServer(t *testing.T) {
	d := newDisk(t, 1_000_001)
	_, url := startServer(t, "chunk-server", "--store", d.store)
	out := filepath.Join(t.TempDir(), "out")
	t.Run("caravel", func(t *testing.T) {
		must(t, caravel, "extract", "--store", url, d.index, out)
		holds(t, out, d.data)
	})
	t.Run("casync", func(t *testing.T) {
		need(t, "casync")
		must(t, "casync", "extract", "--store="+url, d.index, out+".casync")
		holds(t, out+".casync", d.data)
	})
	t.Run("curl", func(t *testing.T) {
		need(t, "curl")
		p := d.chunks(t)[0]
		want := read(t, p.file(d.store))
		if got := must(t, "curl", "-sf", "--range", "10-19", p.file(strings.TrimSuffix(url, "/"))); got != string(want[10:20]) {
			t.Errorf("a range: %q", got)
		}
		if got := must(t, "curl", "-sf", "--http2-prior-knowledge", p.file(strings.TrimSuffix(url, "/"))); got != string(want) {
			t.Errorf("by HTTP/2: %d bytes", len(got))
		}
	})
	t.Run("desync", func(t *testing.T) {
		peer := desync(t)
		must(t, peer, "extract", "-s", url, d.index, out+".desync")
		holds(t, out+".desync", d.data)
		plain := filepath.Join(t.TempDir(), "plain.json")
		put(t, plain, fmt.Appendf(nil, `{"store-options": {"http://127.0.0.1:*/": {"uncompressed": true}}}`))
		_, url := startServer(t, "chunk-server", "--store", d.store, "-u")
		must(t, peer, "extract", "--config", plain, "-s", url, d.index, out+".plain")
		holds(t, out+".plain", d.data)
	})
}

// TestChunkServerWritten has desync fill a store, and strangers not.
func TestChunkServerWritten(t *testing.T) {
	d := newDisk(t, 1_000_001)
	store := d.path("new.castr")
	server, url := startServer(t, "chunk-server", "--store", store, "--writable", "--authorization", "Bearer s3cret")
	p := d.chunks(t)[0]
	at, good := p.file(strings.TrimSuffix(url, "/")), read(t, p.file(d.store))
	for _, tt := range []struct {
		name   string
		body   []byte
		header string
		status int
	}{
		{"a stranger", good, "", 401},
		{"a liar", good, "Bearer s3cre", 401},
		{"nonsense", []byte("nonsense"), "Bearer s3cret", 400},
		{"cut short", good[:len(good)-1], "Bearer s3cret", 400},
		{"another chunk", read(t, d.chunks(t)[1].file(d.store)), "Bearer s3cret", 400},
		{"the chunk", good, "Bearer s3cret", 200},
	} {
		resp, text := answered(t, "PUT", at, bytes.NewReader(tt.body), "Authorization", tt.header)
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s", tt.name, resp.StatusCode, text)
		}
		if _, err := os.Stat(p.file(store)); (err == nil) != (tt.status == 200) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if peer := os.Getenv("DESYNC"); peer != "" {
		conf := filepath.Join(t.TempDir(), "conf.json")
		put(t, conf, fmt.Appendf(nil, `{"store-options": {%q: {"http-auth": "Bearer s3cret"}}}`, url))
		must(t, peer, "make", "--config", conf, "-s", url, d.path("new.caibx"), d.image)
		must(t, caravel, "extract", "--store", store, d.path("new.caibx"), d.path("out"))
		holds(t, d.path("out"), d.data)
	}
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	clean(t, store)
}

// TestChunkServerStatus has ours and desync's answer the same, where desync's is no
// fault.
func TestChunkServerStatus(t *testing.T) {
	d := newDisk(t, 100_000)
	p := d.chunks(t)[0]
	good := p.file("")
	none := strings.Repeat("0", 64)
	servers := map[string]string{}
	_, servers["caravel"] = startServer(t, "chunk-server", "--store", d.store)
	if peer := os.Getenv("DESYNC"); peer != "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().String()
		l.Close()
		start(t, peer, "chunk-server", "-s", d.store, "-l", at)
		eventually(t, "desync listens", func() bool {
			c, err := net.Dial("tcp", at)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		servers["desync"] = "http://" + at + "/"
	}
	for name, url := range servers {
		for _, tt := range []struct {
			method, path string
			status       int
		}{
			{"GET", good, 200}, {"HEAD", good, 200}, {"PUT", good, 400}, {"POST", good, 405}, {"DELETE", good, 405},
			{"GET", "/0000/" + none + ".cacnk", 404}, {"HEAD", "/0000/" + none + ".cacnk", 404},
			{"GET", strings.TrimSuffix(good, ".cacnk"), 400}, {"GET", "/0001/" + none + ".cacnk", 400}, {"GET", "/x", 400},
		} {
			resp, _ := answered(t, tt.method, strings.TrimSuffix(url, "/")+tt.path, nil)
			if resp.StatusCode != tt.status {
				t.Errorf("%s: %s %s: %d, not %d", name, tt.method, tt.path, resp.StatusCode, tt.status)
			}
		}
	}
}

// TestChunkServerCache asks the server behind once for what 64 clients want at a time,
// and never again.
func TestChunkServerCache(t *testing.T) {
	d := newDisk(t, 2_000_001)
	n := startNginx(t, d.dir, false)
	near := d.path("near.castr")
	server, url := startServer(t, "chunk-server", "--store", n.url+"/default.castr", "--cache", near)
	pieces := d.chunks(t)
	for range 2 {
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for _, p := range pieces[:8] {
					resp, err := http.Get(p.file(strings.TrimSuffix(url, "/")))
					if err != nil {
						t.Error(err)
						return
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || !bytes.Equal(b, read(t, p.file(d.store))) {
						t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(b), err)
					}
				}
			})
		}
		all.Wait()
	}
	out := d.path("out")
	must(t, caravel, "extract", "--store", url, d.index, out)
	holds(t, out, d.data)
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	asked := map[string]int{}
	for _, h := range n.end() {
		asked[h.uri]++
	}
	for uri, times := range asked {
		if times != 1 {
			t.Errorf("%s was asked for %d times", uri, times)
		}
	}
	must(t, caravel, "extract", "--store", near, d.index, out+"2") // all is there
}

// TestServersHostile have 10,000 clients at a time that mean no good, and chunks that
// are none; who means well is served, and memory stays bounded.
func TestServersHostile(t *testing.T) {
	need(t, "prlimit")
	d := newDisk(t, 100_000)
	p := d.chunks(t)[0]
	server := start(t, "prlimit", "--nofile=2048", caravel, "chunk-server", "--store", d.path("new.castr"), "--writable", "--max-connections=1000", "--listen=127.0.0.1:0")
	url := strings.TrimSuffix(server.expect("Serving: "), "/")
	host := strings.TrimPrefix(url, "http://")

	var crowd []net.Conn
	defer func() {
		for _, c := range crowd {
			c.Close()
		}
	}()
	for i := range 10_000 {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		_, _ = io.WriteString(c, []string{"", "GET / HTTP/1.1\r\nX: ", "PUT " + p.file("") + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"}[i%3])
		if crowd = append(crowd, c); len(crowd) > 3000 { // descriptors of ours
			crowd[0].Close()
			crowd = crowd[1:]
		}
	}
	within := time.Now()
	if resp, _ := answered(t, "PUT", url+p.file(""), bytes.NewReader(read(t, p.file(d.store)))); resp.StatusCode != 200 {
		t.Errorf("PUT: %d", resp.StatusCode)
	}
	if resp, _ := answered(t, "GET", url+p.file(""), nil); resp.StatusCode != 200 {
		t.Errorf("GET: %d", resp.StatusCode)
	}
	t.Logf("in a crowd of 10,000 served in %v; %d MiB", time.Since(within), server.most()>>20)

	long, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	fmt.Fprintf(long, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 600000000\r\n\r\n", p.file(""))
	head := make([]byte, 12)
	if _, err := io.ReadFull(long, head); err != nil || string(head) != "HTTP/1.1 413" {
		t.Errorf("600 MB: %q, %v", head, err)
	}
	before := server.most()
	r, err := http.NewRequest("PUT", url+p.file(""), io.LimitReader(zeros{}, 600<<20))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultTransport.RoundTrip(r); err == nil { // else the server did not wait for the end
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("600 MB of unknown length: %d", resp.StatusCode)
		}
	}
	t.Logf("600 MB without a length: from %d to %d MiB", before>>20, server.most()>>20)
	if most := server.most(); most > 640<<20 {
		t.Errorf("%d MiB", most>>20)
	}
	if resp, _ := answered(t, "GET", url+p.file(""), nil); resp.StatusCode != 200 {
		t.Errorf("GET: %d", resp.StatusCode)
	}
	server.ends(syscall.SIGTERM, 30*time.Second)
	clean(t, d.path("new.castr"))
}

// TestServersEnd answer what was asked, and say when they cannot begin.
func TestServersEnd(t *testing.T) {
	need(t, "curl")
	d := newDisk(t, 3_000_000)
	server, url := startServer(t, "serve", d.dir)
	out := d.path("out")
	slow := start(t, "curl", "-sf", "--limit-rate", "3M", "-o", out, url+filepath.Base(d.image))
	eventually(t, "curl has begun", func() bool {
		st, err := os.Stat(out)
		return err == nil && st.Size() > 0
	})
	second := run(t, caravel, "serve", "--listen", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/"), d.dir)
	complaint(t, second, "address already in use")
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	if status := slow.wait(); status != 0 {
		t.Errorf("curl: status %d: %s", status, slow.stderr)
	}
	holds(t, out, d.data)
}

// TestServersTLS serve who shows a certificate, by HTTP/2 where the client can.
func TestServersTLS(t *testing.T) {
	need(t, "curl")
	d := newDisk(t, 100_000)
	dir := pki(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	_, url := startServer(t, "chunk-server", "--store", d.store, "--cert", file("server-cert.pem"), "--key", file("server-key.pem"), "--mutual-tls", "--client-ca", file("ca-cert.pem"), "--users", users(t, d))
	_, port, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/"))
	at := d.chunks(t)[0].file("https://localhost:" + port)
	args := []string{"-sS", "-o", os.DevNull, "-w", "%{http_code} %{http_version}", "--cacert", file("ca-cert.pem")}
	shows := append(args, "--cert", file("client-cert.pem"), "--key", file("client-key.pem"))
	if r := run(t, "curl", append(args, at)...); r.status == 0 {
		t.Errorf("without a certificate: %s", r.stdout)
	}
	if got := must(t, "curl", append(shows, at)...); got != "401 2" {
		t.Errorf("without a name: %s", got)
	}
	if got := must(t, "curl", append(shows, "-u", "anna:secret", at)...); got != "200 2" {
		t.Errorf("with both: %s", got)
	}
	if got := must(t, "curl", append(shows, "-u", "anna:secre", at)...); got != "401 2" {
		t.Errorf("with a wrong password: %s", got)
	}
}

// users is a file with anna, whose password is secret.
func users(t *testing.T, d *disk) string {
	t.Helper()
	path := d.path("users")
	put(t, path, []byte("anna:{PLAIN}secret\n"))
	return path
}

// TestServersUsage refuse what cannot be meant, before they listen.
func TestServersUsage(t *testing.T) {
	d := newDisk(t, 1000)
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"chunk-server"}, 2, "--store"},
		{[]string{"chunk-server", "x"}, 2, "no arguments"},
		{[]string{"chunk-server", "-s", d.store, "-s", d.store, "-w"}, 2, "--writable is for one --store"},
		{[]string{"chunk-server", "-s", d.store, "-w", "-c", d.path("c")}, 2, "without a --cache"},
		{[]string{"chunk-server", "-s", d.store, "--cert", "x"}, 2, "--cert and --key"},
		{[]string{"chunk-server", "-s", d.store, "--mutual-tls"}, 2, "--client-ca"},
		{[]string{"chunk-server", "-s", d.path("none.castr")}, 1, "none.castr"},
		{[]string{"chunk-server", "-s", d.store, "--users", d.image}, 1, "line 1"},
		{[]string{"index-server"}, 2, "--store"},
		{[]string{"serve"}, 2, "DIR"},
		{[]string{"serve", d.index}, 1, "no folder"},
		{[]string{"serve", d.dir, "--nbd", "x"}, 2, "HOST:PORT"},
		{[]string{"serve", d.dir, "-c", "x"}, 2, "--store"},
		{[]string{"serve", d.dir, "--listen", "127.0.0.1:http-not"}, 1, "--listen"},
	} {
		r := runWith(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "CASYNC_STORE=") }, caravel, tt.args...)
		if r.status != tt.status || !strings.Contains(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%v: status %d: %s", tt.args, r.status, r.stderr)
		}
	}
}

// sum512 is the ID of a chunk.
func sum512(b []byte) string {
	sum := sha512.Sum512_256(b)
	return hex.EncodeToString(sum[:])
}

// TestChunkServerKilled while many put: what is there is right.
func TestChunkServerKilled(t *testing.T) {
	store := filepath.Join(t.TempDir(), "new.castr")
	for round := range times(3, 30) {
		server, url := startServer(t, "chunk-server", "--store", store, "--writable", "-u")
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := 0; ; j++ {
					b := bytes.Repeat([]byte(strconv.Itoa(round*1e6+i*1e5+j)), 10_000)
					id := sum512(b)
					r, err := http.NewRequest("PUT", url+id[:4]+"/"+id, bytes.NewReader(b))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := http.DefaultTransport.RoundTrip(r)
					if err != nil {
						return
					}
					resp.Body.Close()
				}
			})
		}
		eventually(t, "chunks come", func() bool { n, _ := filepath.Glob(filepath.Join(store, "*")); return len(n) > 20 })
		server.stop(syscall.SIGKILL)
		all.Wait()
	}
	_, url := startServer(t, "chunk-server", "--store", store, "-u", "--skip-verify-read=no")
	files, err := filepath.Glob(filepath.Join(store, "*", "*.cacnk"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d chunks, %v", len(files), err)
	}
	for _, f := range files {
		id := strings.TrimSuffix(filepath.Base(f), ".cacnk")
		if resp, b := answered(t, "GET", url+id[:4]+"/"+id, nil); resp.StatusCode != 200 || sum512(b) != id {
			t.Errorf("%s: %d", id, resp.StatusCode)
		}
	}
}

// put makes a file.
func put(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

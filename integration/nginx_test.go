package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nginxConf has these places: 1 the prefix, 2 the address, 3 the folder to
// serve, 4 more of the server.
const nginxConf = `
worker_processes 1;
pid %[1]s/pid;
events { worker_connections 4096; }
http {
	log_format short '$connection $status $request_method $request_uri';
	access_log %[1]s/access.log short;
	client_body_temp_path %[1]s/temp;
	proxy_temp_path %[1]s/temp;
	proxy_cache_path %[1]s/cache keys_zone=all:1m;
	fastcgi_temp_path %[1]s/temp;
	uwsgi_temp_path %[1]s/temp;
	scgi_temp_path %[1]s/temp;
	default_type application/octet-stream;
	sendfile on;
	keepalive_requests 100000;
	server {
		listen %[2]s;
		root %[3]s;
		%[4]s
	}
}
`

// An nginx is a real web server of a folder.
type nginx struct {
	*daemon
	url string
	log string // path of its access log
	env string // what a client's environment needs to trust it; "": nothing

	seen int // lines of the log, see answered
}

// startNginx serves a folder, with TLS if it is told to, and by more directives.
func startNginx(t testing.TB, dir string, tls bool, directives ...string) *nginx {
	t.Helper()
	return startNginxAt(t, "127.0.0.1", dir, tls, directives...)
}

// startNginxAt is startNginx on an address of this machine.
func startNginxAt(t testing.TB, host, dir string, tls bool, directives ...string) *nginx {
	t.Helper()
	need(t, "nginx")
	prefix := t.TempDir()
	passable(t, prefix)
	passable(t, dir) // the server's workers are nobody
	// The listening socket is handed over as from an nginx to its successor:
	// nobody can take the port, and who connects too early waits.
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	address, more := listener.Addr().String(), strings.Join(directives, " ")
	n := &nginx{url: "http://" + address, log: filepath.Join(prefix, "access.log")}
	if tls {
		n.url = "https://" + address
		cert, key := certificate(t, prefix)
		n.env = "SSL_CERT_FILE=" + cert
		address += " ssl http2"
		more += fmt.Sprintf(" ssl_certificate %s; ssl_certificate_key %s;", cert, key)
	}
	conf := filepath.Join(prefix, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, prefix, address, dir, more), 0o666); err != nil {
		t.Fatal(err)
	}
	n.daemon = startWith(t, func(cmd *exec.Cmd) {
		cmd.ExtraFiles = []*os.File{socket} // descriptor 3
		cmd.Env = append(os.Environ(), "NGINX=3;")
	}, "nginx", "-p", prefix, "-c", conf, "-e", "stderr", "-g", "daemon off;")
	t.Cleanup(func() { // kills would leave its workers
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		<-n.exited
	})
	return n
}

// certificate makes one that is its own authority.
func certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	return certificateOf(t, dir, net.IPv4(127, 0, 0, 1), time.Now().Add(time.Hour))
}

// certificateOf is certificate for an address, until some time.
func certificateOf(t testing.TB, dir string, ip net.IP, end time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              end,
		IPAddresses:           []net.IP{ip},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: public},
		key:  {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// caravel runs a command that trusts the server.
func (n *nginx) caravel(args ...string) result {
	n.t.Helper()
	return runWith(n.t, n.trusted, caravel, args...)
}

func (n *nginx) trusted(cmd *exec.Cmd) {
	if n.env != "" {
		cmd.Env = append(os.Environ(), n.env)
	}
}

// must runs a command that trusts the server and has to succeed.
func (n *nginx) must(args ...string) string {
	n.t.Helper()
	r := n.caravel(args...)
	if r.status != 0 {
		n.t.Fatalf("caravel %s: status %d\n%s%s", strings.Join(args, " "), r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// A hit is a line of the access log.
type hit struct {
	connection, uri string
	status          int
}

// end stops the server and returns what it has answered.
func (n *nginx) end() []hit {
	n.t.Helper()
	if status := n.stop(syscall.SIGTERM); status != 0 {
		n.t.Fatalf("nginx: status %d: %s", status, n.stderr)
	}
	var hits []hit
	for line := range strings.Lines(string(read(n.t, n.log))) {
		f := strings.Fields(line)
		if len(f) != 4 {
			n.t.Fatalf("access log: %q", line)
		}
		status, err := strconv.Atoi(f[1])
		if err != nil {
			n.t.Fatalf("access log: %q", line)
		}
		hits = append(hits, hit{f[0], f[3], status})
	}
	return hits
}

// TestNginx has every command that reads an image read one from a real server,
// over connections that are used again and again.
func TestNginx(t *testing.T) {
	need(t, "nginx")
	d := newDisk(t, 3_000_001)
	uri, digest := "/disk.caibx", must(t, caravel, "digest", d.image)
	for _, tt := range []struct {
		name  string
		tls   bool
		conns int // at most
	}{
		{"plain", false, 128}, // as many as may be in flight
		{"https", true, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startNginx(t, d.dir, tt.tls)
			out := filepath.Join(t.TempDir(), "out")
			n.must("extract", n.url+uri, out)
			holds(t, out, d.data)
			hits := n.end()
			conns := map[string]bool{}
			for _, h := range hits {
				conns[h.connection] = true
				if h.status != http.StatusOK {
					t.Errorf("%s: %d", h.uri, h.status)
				}
			}
			if chunks := len(d.chunks(t)); len(hits) < chunks || len(conns) > tt.conns || len(conns)*5 > len(hits) {
				t.Errorf("%d chunks came in %d requests over %d connections", chunks, len(hits), len(conns))
			}
			t.Logf("%d requests over %d connections", len(hits), len(conns))

			n = startNginx(t, d.dir, tt.tls)
			if got := n.must("digest", n.url+uri); got != digest {
				t.Errorf("digest %q, want %q", got, digest)
			}
			if got, want := n.must("list-chunks", n.url+uri), must(t, caravel, "list-chunks", d.index); got != want {
				t.Errorf("list-chunks: %d bytes, want %d", len(got), len(want))
			}
			for _, r := range [][2]int{{0, 1}, {1, 4096}, {4095, 2}, {1_234_567, 100_000}, {2_999_999, 2}} {
				got := n.must("cat", "--offset", strconv.Itoa(r[0]), "--length", strconv.Itoa(r[1]), n.url+uri)
				if got != string(d.data[r[0]:r[0]+r[1]]) {
					t.Errorf("cat %v: wrong bytes", r)
				}
			}
			t.Run("nbd", func(t *testing.T) { n.nbd(t, d, uri) })
			t.Run("mount", func(t *testing.T) { n.mount(t, d, uri) })
		})
	}
}

func (n *nginx) nbd(t *testing.T, d *disk, uri string) {
	need(t, "nbdcopy")
	server := startWith(t, n.trusted, caravel, "nbd-server", "--listen", "127.0.0.1:0", n.url+uri)
	out := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", server.expect("Serving: "), out)
	holds(t, out, d.data)
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
}

func (n *nginx) mount(t *testing.T, d *disk, uri string) {
	needFUSE(t)
	dir := t.TempDir()
	server := startWith(t, n.trusted, caravel, "mount", n.url+uri, dir)
	server.expect("Mounted: ")
	holds(t, filepath.Join(dir, "disk"), d.data)
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
}

// TestUntrustedCertificate is refused, and nothing is asked of its server.
func TestUntrustedCertificate(t *testing.T) {
	d := newDisk(t, 10_000)
	n := startNginx(t, d.dir, true)
	n.env = ""
	complaint(t, n.caravel("digest", n.url+"/disk.caibx"), n.url, "certificate")
	if hits := n.end(); len(hits) > 0 {
		t.Errorf("was asked: %v", hits)
	}
}

// TestQuery keeps the query of an index's URL; the store beside it is found
// without, as casync does it.
func TestQuery(t *testing.T) {
	d := newDisk(t, 20_000)
	n := startNginx(t, d.dir, false)
	const uri = "/disk.caibx?token=a%20b&x=/y"
	if got := n.must("cat", n.url+uri); got != string(d.data) {
		t.Error("wrong bytes")
	}
	asked := map[string]int{}
	for _, h := range n.end() {
		asked[h.uri] = h.status
	}
	if asked[uri] != http.StatusOK {
		t.Errorf("%s was not asked for, but %v", uri, asked)
	}
	for _, p := range d.chunks(t) {
		if asked[p.file("/default.castr")] != http.StatusOK {
			t.Errorf("%s was not asked for, but %v", p.file("/default.castr"), asked)
		}
	}
}

// TestNotThere says which URL is not, and what the server said.
func TestNotThere(t *testing.T) {
	d := newDisk(t, 20_000)
	n := startNginx(t, d.dir, false)
	out := d.path("out")
	for _, args := range [][]string{
		{"extract", n.url + "/none.caibx", out},
		{"cat", n.url + "/none.caibx"},
		{"digest", n.url + "/none.caibx"},
		{"list-chunks", n.url + "/none.caibx"},
		{"nbd-server", "--listen", "127.0.0.1:0", n.url + "/none.caibx"},
	} {
		complaint(t, n.caravel(args...), n.url+"/none.caibx", "404")
	}
	absent(t, out)
}

// TestStores finds chunks in stores that are elsewhere, missing, incomplete or
// dead.
func TestStores(t *testing.T) {
	d := newDisk(t, 200_000)
	lonely := d.chunks(t)[3]
	for _, dir := range []string{"a", "b"} {
		if err := os.CopyFS(d.path(dir), os.DirFS(d.store)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(d.store); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(lonely.file(d.path("a"))); err != nil {
		t.Fatal(err)
	}
	n := startNginx(t, d.dir, false)
	dead := deadURL(t)
	index, a, b := n.url+"/disk.caibx", n.url+"/a", n.url+"/b"
	works := func(args ...string) {
		t.Helper()
		timely(t, strings.Join(args, " "), 30*time.Second, func() {
			if got := n.must(append([]string{"cat", index}, args...)...); got != string(d.data) {
				t.Errorf("%v: wrong bytes", args)
			}
		})
	}
	works("--store", b)
	works("--store", b+"/") // with a slash at the end
	works("--store", a, "--extra-store", b)
	works("--store", a, "--store", b)
	works("--extra-store", b) // the store beside the index is not there
	works("--store", dead+"/a", "--extra-store", b)
	works("--store", d.path("a"), "--extra-store", b) // a folder and a server

	complaint(t, n.caravel("cat", "--store", a, index, d.path("out")), lonely.ID, a)
	complaint(t, n.caravel("cat", index, d.path("out")), n.url+"/default.castr")
	complaint(t, n.caravel("cat", "--timeout", "1s", "--store", dead+"/a", index, d.path("out")), dead+"/a")
	for _, h := range n.end() {
		if h.status == http.StatusNotFound && strings.HasPrefix(h.uri, "/b/") {
			t.Errorf("%s: 404", h.uri)
		}
	}
}

// TestIndexByPipe reads an index from standard input and its chunks from a
// server.
func TestIndexByPipe(t *testing.T) {
	d := newDisk(t, 50_000)
	n := startNginx(t, d.dir, false)
	r := runWith(t, func(cmd *exec.Cmd) {
		cmd.Stdin = io.MultiReader(bytes.NewReader(read(t, d.index))) // no file: a pipe
	}, caravel, "cat", "--store", n.url+"/default.castr", "-")
	if r.status != 0 || r.stdout != string(d.data) {
		t.Errorf("status %d, %d bytes: %s", r.status, len(r.stdout), r.stderr)
	}
}

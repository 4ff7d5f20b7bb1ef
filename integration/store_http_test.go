//go:build linux

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/store"
	caravelhttp "caravel/store/http"
	"caravel/store/local"
	"caravel/store/storetest"
)

// startShelf is an nginx that takes files into a folder, by more directives.
func startShelf(t testing.TB, tls bool, directives ...string) (n *nginx, dir string) {
	t.Helper()
	return startShelfIn(t, t.TempDir(), tls, directives...)
}

func startShelfIn(t testing.TB, dir string, tls bool, directives ...string) (*nginx, string) {
	t.Helper()
	dav := []string{"dav_methods PUT DELETE;", "create_full_put_path on;", "client_max_body_size 64m;"}
	n := startNginx(t, dir, tls, append(dav, directives...)...)
	if err := os.Chmod(dir, 0o777); err != nil { // its workers are nobody
		t.Fatal(err)
	}
	return n, dir
}

// basicAuth are directives that let nobody but me in, with the password sesame.
func basicAuth(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	passable(t, dir)
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, []byte("me:{PLAIN}sesame\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{`auth_basic "images";`, "auth_basic_user_file " + users + ";"}
}

// knowing is the URL of a server with the user and password of basicAuth.
func (n *nginx) knowing() string { return strings.Replace(n.url, "://", "://me:sesame@", 1) }

// readBack reads every file that lies in a store as a chunk, and says how many these
// are: none is there that does not match its name.
func readBack(t testing.TB, dir string) (chunks int) {
	t.Helper()
	blobs := local.New(dir, local.Options{})
	s := store.Verify(store.Chunks(blobs, store.Form{}))
	for name, err := range blobs.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		id, err := chunker.ParseID(strings.TrimSuffix(filepath.Base(name), ".cacnk"))
		if err != nil || name != (store.Form{}).Name(id) {
			t.Errorf("%s: no chunk's name: %v", name, err)
			continue
		}
		c, err := s.Get(t.Context(), store.Want{ID: id})
		if err != nil {
			t.Error(err)
			continue
		}
		c.Release()
		chunks++
	}
	return chunks
}

// TestNginxShelf has the suites of backends and stores write to a real server: as
// anybody, by password, and with a certificate of its own authority for both sides.
func TestNginxShelf(t *testing.T) {
	ca := newAuthority(t)
	for _, tt := range []struct {
		name  string
		start func(t *testing.T) (*nginx, string)
		url   func(n *nginx) string
	}{
		{"anybody", func(t *testing.T) (*nginx, string) { return startShelf(t, false, "etag off;") },
			func(n *nginx) string { return n.url }},
		{"password", func(t *testing.T) (*nginx, string) { return startShelf(t, false, append(basicAuth(t), "etag off;")...) },
			(*nginx).knowing},
		{"certificates", func(t *testing.T) (*nginx, string) {
			return startShelf(t, true, "etag off;", "ssl_verify_client on;", "ssl_client_certificate "+ca.file+";")
		}, func(n *nginx) string { return n.url }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, dir := tt.start(t)
			opt := caravelhttp.Options{Client: ca.client(t, n)}
			folder := func(t *testing.T) *caravelhttp.Web {
				web, err := caravelhttp.New(tt.url(n)+"/"+filepath.Base(t.TempDir())+"-"+chunker.SHA256.Sum([]byte(t.Name())).String()[:8], opt)
				if err != nil {
					t.Fatal(err)
				}
				return web
			}
			storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
				web := folder(t)
				for name, content := range objects {
					if err := web.Put(t.Context(), name, strings.NewReader(string(content)), -1); err != nil {
						t.Fatal(err)
					}
				}
				return byDate{web, web, web, web, web}
			})
			storetest.Run(t, func(t *testing.T) store.Writer {
				w, err := store.Writable(folder(t), store.Form{})
				if err != nil {
					t.Fatal(err)
				}
				return w
			})
			if tt.name == "certificates" {
				stranger, err := caravelhttp.New(n.url, caravelhttp.Options{Client: ca.stranger(t, n)})
				if err != nil {
					t.Fatal(err)
				}
				err = stranger.Put(t.Context(), "strange", strings.NewReader("x"), 1)
				if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "400") {
					t.Errorf("without a certificate: %v", err)
				}
			}
			absent(t, filepath.Join(dir, "strange"))
		})
	}
}

// byDate is a Web of a server whose files have their dates for tags, of which those
// of the last second are none: it is no Refresher for a suite that knows no rest.
type byDate struct {
	store.Blobs
	store.Statter
	store.Putter
	store.Deleter
	store.Locator
}

// An authority signs certificates, for clients.
type authority struct {
	file    string // its own certificate
	cert    *x509.Certificate
	private *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	dir := t.TempDir()
	file, key := certificate(t, dir)
	block, _ := pem.Decode(read(t, file))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(read(t, key))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{file, cert, private.(*ecdsa.PrivateKey)}
}

// client trusts a server's certificate and shows one that the authority has signed.
func (a *authority) client(t testing.TB, n *nginx) *http.Client {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "client"}, // another one than the authority's
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.private)
	if err != nil {
		t.Fatal(err)
	}
	client := a.stranger(t, n)
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{signed}, PrivateKey: private}}
	return client
}

// stranger only trusts a server's certificate.
func (a *authority) stranger(t testing.TB, n *nginx) *http.Client {
	t.Helper()
	client, pool := caravelhttp.NewClient(caravelhttp.Options{}), x509.NewCertPool()
	if file, ok := strings.CutPrefix(n.env, "SSL_CERT_FILE="); ok {
		pool.AppendCertsFromPEM(read(t, file))
	}
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// TestMakeToNginx makes images on a server, as anybody and by password: the same
// files as on a disk, the index last, and all that reads one reads these.
func TestMakeToNginx(t *testing.T) {
	for name, tt := range map[string]struct {
		directives []string
		url        func(n *nginx) string
	}{
		"anybody":  {nil, func(n *nginx) string { return n.url }},
		"password": {basicAuth(t), (*nginx).knowing},
	} {
		t.Run(name, func(t *testing.T) {
			n, dir := startShelf(t, false, tt.directives...)
			url := tt.url(n) + "/images"
			at := filepath.Join(dir, "images")
			t.Run("disk", func(t *testing.T) { n.takesDisk(t, url, at) })
			t.Run("tree", func(t *testing.T) { n.takesTree(t, url, at) })
			t.Run("archive", func(t *testing.T) { n.takesArchive(t, url, at) })
			t.Run("stores", func(t *testing.T) { n.takesEither(t, url, at) })
		})
	}
}

// TestMakeToNginxTLS makes an image over HTTP/2, with many requests on few connections.
func TestMakeToNginxTLS(t *testing.T) {
	d := newDisk(t, 2_000_001)
	n, dir := startShelf(t, true)
	if got := n.must("make", "--chunk-size=4K", n.url+"/disk.caibx", d.image); got != must(t, caravel, "digest", d.image) {
		t.Errorf("printed %q", got)
	}
	holds(t, filepath.Join(dir, "disk.caibx"), read(t, d.index))
	if got, want := readBack(t, filepath.Join(dir, "default.castr")), readBack(t, d.store); got != want {
		t.Errorf("%d chunks, want %d", got, want)
	}
	if got := n.must("cat", n.url+"/disk.caibx"); got != string(d.data) {
		t.Error("wrong bytes")
	}
	conns := map[string]bool{}
	for _, h := range n.end() {
		conns[h.connection] = true
	}
	if len(conns) > 16 {
		t.Errorf("over %d connections", len(conns))
	}
}

// order checks that of what was put since the last look the last files were these.
func (n *nginx) order(t *testing.T, last ...string) {
	t.Helper()
	var put []string
	for line := range strings.Lines(string(read(t, n.log))) {
		if f := strings.Fields(line); f[2] == http.MethodPut {
			put = append(put, f[3])
		}
	}
	if len(put) < len(last) || !slices.Equal(put[len(put)-len(last):], last) {
		t.Errorf("put last: %v, want %v", put[max(0, len(put)-5):], last)
	}
}

func (n *nginx) takesDisk(t *testing.T, url, at string) {
	d := newDisk(t, 2_000_001)
	r := run(t, caravel, "make", "--chunk-size=4K", "-v", url+"/disk.caibx", d.image)
	if r.status != 0 || r.stdout != must(t, caravel, "digest", d.image) || strings.Contains(r.stderr, "sesame") {
		t.Fatalf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	n.order(t, "/images/disk.caibx")
	holds(t, filepath.Join(at, "disk.caibx"), read(t, d.index))
	if got, want := readBack(t, filepath.Join(at, "default.castr")), readBack(t, d.store); got != want {
		t.Errorf("%d chunks, want %d", got, want)
	}
	out := filepath.Join(t.TempDir(), "out")
	must(t, caravel, "extract", url+"/disk.caibx", out)
	holds(t, out, d.data)
	if got := must(t, caravel, "cat", "--offset=1000000", "--length=5000", url+"/disk.caibx"); got != string(d.data[1_000_000:1_005_000]) {
		t.Error("cat: wrong bytes")
	}
	t.Run("casync", func(t *testing.T) {
		need(t, "casync")
		theirs := filepath.Join(t.TempDir(), "theirs")
		must(t, "casync", "extract", "--store="+url+"/default.castr", url+"/disk.caibx", theirs)
		holds(t, theirs, d.data)
	})
	t.Run("mount", func(t *testing.T) {
		needFUSE(t)
		m, file := mounted(t, "--record="+url+"/disk.caibx.profile", url+"/disk.caibx", t.TempDir())
		holds(t, file, d.data)
		m.ends(syscall.SIGTERM, soon)
		if shown := must(t, caravel, "profile", "show", "--json", "--index="+url+"/disk.caibx", url+"/disk.caibx.profile"); !strings.Contains(shown, `"same":true`) {
			t.Errorf("profile: %s", shown)
		}
		must(t, caravel, "profile", "merge", "-o", url+"/merged.profile", url+"/disk.caibx.profile")
		holds(t, filepath.Join(at, "merged.profile"), read(t, filepath.Join(at, "disk.caibx.profile")))
	})
	t.Run("mkdev", func(t *testing.T) {
		m, device := attached(t, url+"/disk.caibx")
		if got := read(t, device); string(got[:len(d.data)]) != string(d.data) {
			t.Error("wrong bytes")
		}
		if status := m.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("status %d: %s", status, m.stderr)
		}
	})
}

func (n *nginx) takesTree(t *testing.T, url, at string) {
	p := packTree(t, caravel, smallFiles(t))
	must(t, caravel, "make", url+"/tree.caidx", p.source)
	n.order(t, "/images/tree.caidx.tree", "/images/tree.caidx")
	for _, ending := range []string{"", ".tree"} {
		holds(t, filepath.Join(at, "tree.caidx"+ending), read(t, p.index+ending))
	}
	readBack(t, filepath.Join(at, "default.castr"))
	out := filepath.Join(t.TempDir(), "out")
	must(t, caravel, "extract", url+"/tree.caidx", out)
	sameTree(t, out, p.source)
	t.Run("casync", func(t *testing.T) {
		need(t, "casync")
		theirs := filepath.Join(t.TempDir(), "theirs")
		must(t, "casync", "extract", "--store="+url+"/default.castr", url+"/tree.caidx", theirs)
		sameTree(t, theirs, p.source)
	})
	t.Run("mount", func(t *testing.T) {
		m, dir := mountedTree(t, url+"/tree.caidx")
		sameTree(t, dir, p.source)
		m.ends(syscall.SIGTERM, soon)
	})
	t.Run("sidecar", func(t *testing.T) {
		side := filepath.Join(at, "tree.caidx.tree")
		if err := os.Remove(side); err != nil {
			t.Fatal(err)
		}
		must(t, caravel, "tree", url+"/tree.caidx")
		holds(t, side, read(t, p.index+".tree"))
		// Another tree without one: that of the former is not left.
		if err := os.WriteFile(filepath.Join(p.source, "more"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		must(t, caravel, "make", "--no-tree", url+"/tree.caidx", p.source)
		absent(t, side)
	})
}

func (n *nginx) takesArchive(t *testing.T, url, at string) {
	p := packTree(t, caravel, smallFiles(t))
	if got := must(t, caravel, "make", url+"/tree.catar", p.source); strings.TrimSpace(got) != p.digest {
		t.Errorf("digest %q, want %q", got, p.digest)
	}
	holds(t, filepath.Join(at, "tree.catar"), read(t, p.archive))
}

// takesEither has the index here and the chunks there, and the other way round.
func (n *nginx) takesEither(t *testing.T, url, at string) {
	d, dir := newDisk(t, 300_000), t.TempDir()
	here, castr := filepath.Join(dir, "x.caibx"), filepath.Join(dir, "st.castr")
	must(t, caravel, "make", "--chunk-size=4K", "--store="+url+"/other.castr", here, d.image)
	holds(t, here, read(t, d.index))
	if got := must(t, caravel, "cat", "--store="+url+"/other.castr", here); got != string(d.data) {
		t.Error("chunks there: wrong bytes")
	}
	must(t, caravel, "make", "--chunk-size=4K", "--store="+castr, url+"/x.caibx", d.image)
	holds(t, filepath.Join(at, "x.caibx"), read(t, d.index))
	if got := must(t, caravel, "cat", "--store="+castr, url+"/x.caibx"); got != string(d.data) {
		t.Error("chunks here: wrong bytes")
	}
	if got, want := readBack(t, filepath.Join(at, "other.castr")), readBack(t, castr); got != want {
		t.Errorf("%d chunks there, %d here", got, want)
	}
}

// makeThereAsTyped makes an image on an nginx that is set up as the README says.
func makeThereAsTyped(t *testing.T, r *readmeReader, line string) {
	n, dir := startShelf(t, false, basicAuth(t)...)
	if got := r.typed(t, r.home, line, "https://me:secret@host", n.knowing()); got != r.digest {
		t.Errorf("printed %q, want %q", got, r.digest)
	}
	holds(t, filepath.Join(dir, "images/disk.caibx"), read(t, filepath.Join(r.www, "disk.caibx")))
}

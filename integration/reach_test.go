package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clientCertificate makes one that the authority vouches for.
func clientCertificate(t testing.TB, ca, caKey, dir string) (cert, key string) {
	t.Helper()
	block, _ := pem.Decode(read(t, ca))
	parent, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(read(t, caKey))
	parentKey, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "client"}, // or it would seem to be its own authority
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	public, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	writeSecret(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}))
	writeSecret(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return cert, key
}

// writeSecret writes what is nobody else's to read.
func writeSecret(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// configFile writes a configuration with options for locations.
func configFile(t testing.TB, options map[string]map[string]any) string {
	t.Helper()
	content, err := json.Marshal(map[string]any{"store-options": options})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	writeSecret(t, path, content)
	return path
}

// refused is a run that ends at once, with the reason.
func refused(t *testing.T, why string, args ...string) {
	t.Helper()
	began := time.Now()
	r := run(t, caravel, args...)
	if r.status != 1 || !strings.Contains(r.stderr, why) {
		t.Errorf("%s: status %d, %s; want %q in it", strings.Join(args, " "), r.status, r.stderr, why)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("%s: took %v", strings.Join(args, " "), took)
	}
}

// TestReachTLS reads through a server whose authority is nobody's but ours, and which
// wants to know who we are.
func TestReachTLS(t *testing.T) {
	d := newDisk(t, 500_001)
	n := startNginx(t, d.dir, true)
	ca := strings.TrimPrefix(n.env, "SSL_CERT_FILE=")
	index := n.url + "/disk.caibx"
	want := must(t, caravel, "digest", d.image)
	digest := func(args ...string) {
		t.Helper()
		if got := must(t, caravel, append([]string{"digest", index}, args...)...); got != want {
			t.Errorf("%v: digest %q, want %q", args, got, want)
		}
	}
	refused(t, "certificate signed by unknown authority", "digest", index)
	digest("--ca-cert", ca)
	digest("--trust-insecure")
	digest("-t")
	digest("--config", configFile(t, map[string]map[string]any{n.url: {"ca-cert": ca}, n.url + "/default.castr": {"ca-cert": ca}}))
	refused(t, "holds no certificate", "digest", index, "--ca-cert", d.image)

	mutual := startNginx(t, d.dir, true, "ssl_verify_client on; ssl_client_certificate "+ca+";")
	trust := []string{"--ca-cert", strings.TrimPrefix(mutual.env, "SSL_CERT_FILE=")}
	cert, key := clientCertificate(t, ca, filepath.Join(filepath.Dir(ca), "key.pem"), t.TempDir())
	index = mutual.url + "/disk.caibx"
	digest(append(trust, "--client-cert", cert, "--client-key", key)...)
	refused(t, "400 Bad Request", append(trust, "digest", index)...)
	if r := run(t, caravel, "digest", index, "--client-cert", cert); r.status != 2 || !strings.Contains(r.stderr, "--client-cert and client-key go together") {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	stranger, strangerKey := certificate(t, t.TempDir())
	refused(t, "400 Bad Request", append(trust, "digest", index, "--client-cert", stranger, "--client-key", strangerKey)...)
}

// TestReachAuthorized reads from servers that ask who wants it: nobody's secrets are in
// what is printed.
func TestReachAuthorized(t *testing.T) {
	d := newDisk(t, 500_001)
	dir := t.TempDir()
	passable(t, dir)
	htpasswd := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(htpasswd, []byte("user:{PLAIN}s3cret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := must(t, caravel, "digest", d.image)
	accepts := func(t *testing.T, setup func(*exec.Cmd), args ...string) {
		t.Helper()
		if r := runWith(t, setup, caravel, append([]string{"digest"}, args...)...); r.status != 0 || r.stdout != want {
			t.Errorf("%v: status %d, digest %q, want %q: %s", args, r.status, r.stdout, want, r.stderr)
		}
	}
	rejects := func(t *testing.T, status string, args ...string) {
		t.Helper()
		r := run(t, caravel, append([]string{"digest"}, args...)...)
		if r.status != 1 || !strings.Contains(r.stderr, status) || strings.Contains(r.stderr, "s3cret") {
			t.Errorf("%v: status %d, %s; want %s in it", args, r.status, r.stderr, status)
		}
	}
	t.Run("basic", func(t *testing.T) {
		n := startNginx(t, d.dir, false, `auth_basic "images"; auth_basic_user_file `+htpasswd+`;`)
		index := n.url + "/disk.caibx"
		const header = "Basic dXNlcjpzM2NyZXQ="
		rejects(t, "401 Unauthorized", index)
		rejects(t, "401 Unauthorized", index, "--http-auth", "Basic s3cret")
		accepts(t, nil, index, "--http-auth", header)
		accepts(t, nil, index, "--header", "authorization: "+header)
		accepts(t, nil, index, "--config", configFile(t, map[string]map[string]any{n.url: {"http-auth": header}, n.url + "/*": {"http-auth": header}}))
		accepts(t, nil, strings.Replace(index, "://", "://user:s3cret@", 1))
		netrc := filepath.Join(dir, "netrc")
		writeSecret(t, netrc, []byte("machine 127.0.0.1 login user password s3cret\n"))
		accepts(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "NETRC="+netrc) }, index)
	})
	t.Run("bearer", func(t *testing.T) {
		n := startNginx(t, d.dir, false, `if ($http_authorization != "Bearer s3cret") { return 403; }`)
		index, token := n.url+"/disk.caibx", filepath.Join(dir, "token")
		writeSecret(t, token, []byte("s3cret\n"))
		rejects(t, "403 Forbidden", index)
		accepts(t, nil, index, "--token-file", token)
		accepts(t, nil, index, "--config", configFile(t, map[string]map[string]any{n.url: {"token-file": token}, n.url + "/default.castr": {"token-file": token}}))
		writeSecret(t, token, []byte("old-s3cret\n"))
		rejects(t, "403 Forbidden", index, "--token-file", token)
	})
	t.Run("cookie and header", func(t *testing.T) {
		n := startNginx(t, d.dir, false, `if ($cookie_session != "s3cret") { return 403; } if ($http_x_team != "blue") { return 403; }`)
		index := n.url + "/disk.caibx"
		rejects(t, "403 Forbidden", index, "--http-cookie", "session=s3cret")
		accepts(t, nil, index, "--http-cookie", "session=s3cret", "--header", "X-Team: blue")
	})
	t.Run("redirected", func(t *testing.T) {
		// The other server takes nobody who says what is not for it.
		other := startNginx(t, d.dir, false, `if ($http_authorization) { return 403; } if ($http_x_team) { return 403; } if ($http_cookie) { return 403; }`)
		n := startNginx(t, d.dir, false, `if ($http_authorization != "Bearer s3cret") { return 403; } return 307 `+other.url+`$request_uri;`)
		accepts(t, nil, n.url+"/disk.caibx", "--http-auth", "Bearer s3cret", "--header", "X-Team: blue", "--http-cookie", "a=b")
	})
}

// TestReachByProxy goes through a real proxy, which alone is asked; loopback addresses
// are never asked for by one, so the server listens on another one of this machine.
func TestReachByProxy(t *testing.T) {
	need(t, "tinyproxy")
	address := ownAddress(t)
	d := newDisk(t, 300_001)
	dir := t.TempDir()
	passable(t, dir)
	proxy := freePort(t)
	_, port, err := net.SplitHostPort(proxy)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "conf")
	log := filepath.Join(dir, "log")
	writeSecret(t, conf, fmt.Appendf(nil, "Port %s\nListen 127.0.0.1\nTimeout 60\nMaxClients 200\nLogFile %q\nLogLevel Connect\n", port, log))
	start(t, "tinyproxy", "-d", "-c", conf)
	eventually(t, "the proxy listens", func() bool {
		conn, err := net.Dial("tcp", proxy)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	want := must(t, caravel, "digest", d.image)
	for _, tls := range []bool{false, true} {
		n := startNginxAt(t, address, d.dir, tls)
		env := append(os.Environ(), "http_proxy=http://"+proxy, "https_proxy=http://"+proxy, "no_proxy=")
		r := runWith(t, func(cmd *exec.Cmd) { cmd.Env = env }, caravel, "digest", "-t", n.url+"/disk.caibx")
		if r.status != 0 || r.stdout != want {
			t.Errorf("tls %v: status %d, %s", tls, r.status, r.stderr)
		}
		if seen := string(read(t, log)); !strings.Contains(seen, strings.TrimPrefix(strings.TrimPrefix(n.url, "https://"), "http://")) {
			t.Errorf("tls %v: the proxy was not asked: %s", tls, seen)
		}
	}
}

// ownAddress is one of this machine's that is no loopback address.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback's")
	return ""
}

// TestReachRate receives no faster than it was told to.
func TestReachRate(t *testing.T) {
	d := newDisk(t, 1_500_000) // which does not compress
	n := startNginx(t, d.dir, false)
	began := time.Now()
	n.must("digest", "--rate-limit-bps", "500K", n.url+"/disk.caibx")
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("took %v, want about 3 s", took)
	}
	n.must("digest", "--host-requests", "1", n.url+"/disk.caibx")
}

//go:build linux

package integration

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pki makes a folder as libnbd and qemu want it, for both ends: the certificate of
// an authority, and certificate and key of a server, which is localhost, and of a
// client.
func pki(t *testing.T) string { return pkiOf(t, ellipticKey(t), func(*x509.Certificate) {}) }

func ellipticKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pkiOf is pki with a client whose key and certificate are to be like this.
func pkiOf(t *testing.T, clientKey crypto.Signer, change func(client *x509.Certificate)) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name, kind string, der []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	caKey := ellipticKey(t)
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	put("ca-cert.pem", "CERTIFICATE", der, err)
	for i, end := range []string{"server", "client"} {
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: end + " of the test"},
			DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			NotBefore:   ca.NotBefore, NotAfter: ca.NotAfter,
		}
		k := clientKey
		if end == "server" {
			k = ellipticKey(t)
		} else {
			change(cert)
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, k.Public(), caKey)
		put(end+"-cert.pem", "CERTIFICATE", der, err)
		der, err = x509.MarshalPKCS8PrivateKey(k)
		put(end+"-key.pem", "PRIVATE KEY", der, err)
	}
	return dir
}

// anonymous is a folder of a client that has no certificate.
func anonymous(t *testing.T, dir string) string {
	t.Helper()
	other := t.TempDir()
	writeFile(t, filepath.Join(other, "ca-cert.pem"), read(t, filepath.Join(dir, "ca-cert.pem")))
	return other
}

// TestTLS has everybody's clients read over TLS, by socket and by TCP.
func TestTLS(t *testing.T) {
	need(t, "nbdinfo", "nbdcopy")
	d, dir := sparseDisk(t), pki(t)
	for _, where := range [][]string{{"--socket", filepath.Join(shortDir(t), "s")}, {"--listen", "127.0.0.1:0"}} {
		t.Run(where[0], func(t *testing.T) {
			server, uri := startNBD(t, append(where, "--tls-cert="+filepath.Join(dir, "server-cert.pem"), "--tls-key="+filepath.Join(dir, "server-key.pem"), d.index)...)
			if !strings.HasPrefix(uri, "nbds") {
				t.Errorf("Serving: %s", uri)
			}
			out := filepath.Join(t.TempDir(), "out")
			for _, conns := range []string{"1", "8"} {
				must(t, "nbdcopy", "--connections="+conns, withTLS(uri, dir), out)
				holds(t, out, d.data)
			}
			nbdinfo(t, withTLS(uri, anonymous(t, dir)), d)
			// Without TLS, too: it is up to the client.
			must(t, "nbdcopy", strings.Replace(uri, "nbds", "nbd", 1), out)
			holds(t, out, d.data)
			// On a socket libnbd does not ask who the server is.
			if r := run(t, "nbdinfo", withTLS(uri, pki(t))); r.status == 0 && where[0] != "--socket" {
				t.Error("a client takes a server of another authority")
			}
			server.ends(syscall.SIGTERM, soon)
		})
	}
}

// withTLS is a URI with the folder in which the client finds its certificates.
func withTLS(uri, dir string) string {
	if strings.Contains(uri, "?") {
		return uri + "&tls-certificates=" + dir
	}
	return uri + "/?tls-certificates=" + dir
}

// TestTLSRequired serves nobody else, and with an authority nobody without a
// certificate.
func TestTLSRequired(t *testing.T) {
	need(t, "nbdinfo", "nbdcopy")
	d, dir := newDisk(t, 300_000), pki(t)
	server, uri := startNBD(t, "--listen=127.0.0.1:0", "--tls-certificates="+dir, "--tls-required", "--log-level=debug", d.index)
	out := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", withTLS(uri, dir), out)
	holds(t, out, d.data)
	if log := server.stderr.String(); !strings.Contains(log, "CN=client of the test") {
		t.Errorf("the client's name is not in the log: %s", log)
	}
	for name, uri := range map[string]string{
		"in the clear":                   strings.Replace(uri, "nbds", "nbd", 1),
		"without a certificate":          withTLS(uri, anonymous(t, dir)),
		"with another authority's":       withTLS(uri, pki(t)),
		"in the clear, by EXPORT_NAME":   strings.Replace(uri, "nbds", "nbd", 1) + "/disk",
		"a list without a certificate":   withTLS(export(uri, "disk"), anonymous(t, dir)),
		"an export that is not there":    strings.Replace(withTLS(uri, dir), "/?", "/none?", 1),
		"over TLS, of an unknown folder": withTLS(uri, filepath.Join(dir, "none")),
	} {
		if r := run(t, "nbdinfo", uri); r.status == 0 {
			t.Errorf("%s: is served: %s", name, r.stdout)
		}
	}
	must(t, "nbdcopy", withTLS(uri, dir), out) // the server goes on
	server.ends(syscall.SIGINT, soon)
}

// TestTLSClients shows the server certificates of its authority that are good, or
// not, for who they are or what they are for.
func TestTLSClients(t *testing.T) {
	need(t, "nbdinfo", "qemu-img")
	d := newDisk(t, 10_000)
	// With RSA GnuTLS shows a certificate only if it is not told whose it is to be.
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		key    crypto.Signer
		change func(client *x509.Certificate)
		served bool
	}{
		{"RSA", k, func(*x509.Certificate) {}, true},
		{"expired", ellipticKey(t), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, false},
		{"a server's", ellipticKey(t), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := pkiOf(t, tt.key, tt.change)
			server, uri := startNBD(t, "--listen=127.0.0.1:0", "--tls-certificates="+dir, "--tls-required", d.index)
			host, port, err := net.SplitHostPort(strings.TrimPrefix(uri, "nbds://"))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []result{
				run(t, "nbdinfo", withTLS(uri, dir)),
				run(t, "qemu-img", "info", "--object", "tls-creds-x509,id=t,endpoint=client,dir="+dir,
					"--image-opts", "driver=nbd,host="+host+",port="+port+",export=disk,tls-creds=t,tls-hostname=localhost"),
			} {
				if (r.status == 0) != tt.served {
					t.Errorf("status %d: %s", r.status, r.stderr)
				}
			}
			server.ends(syscall.SIGTERM, soon)
		})
	}
}

// TestTLSQemu has qemu prove who it is.
func TestTLSQemu(t *testing.T) {
	need(t, "qemu-img")
	d, dir := sparseDisk(t), pki(t)
	_, uri := startNBD(t, "--listen=127.0.0.1:0", "--tls-certificates="+dir, "--tls-required", d.index)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(uri, "nbds://"))
	if err != nil {
		t.Fatal(err)
	}
	image := "driver=nbd,host=" + host + ",port=" + port + ",export=disk,tls-creds=t,tls-hostname=localhost"
	creds := func(dir string) []string {
		return []string{"--object", "tls-creds-x509,id=t,endpoint=client,dir=" + dir}
	}
	qemu := func(command, dir string, more ...string) result {
		return run(t, "qemu-img", append(append([]string{command}, creds(dir)...), more...)...)
	}
	if r := qemu("info", dir, "--image-opts", image); r.status != 0 {
		t.Fatalf("info: %s", r.stderr)
	}
	if r := qemu("compare", dir, "--image-opts", image, "driver=raw,file.filename="+d.image); !strings.Contains(r.stdout, "identical") {
		t.Errorf("compare: %s%s", r.stdout, r.stderr)
	}
	if r := qemu("info", anonymous(t, dir), "--image-opts", image); r.status == 0 {
		t.Error("a client without a certificate is served")
	}
}

// TestTLSFiles tells which file is wrong.
func TestTLSFiles(t *testing.T) {
	d, dir := newDisk(t, 10_000), pki(t)
	serve := func(args ...string) result {
		return run(t, caravel, append([]string{"nbd-server", "--socket=" + filepath.Join(dir, "s"), d.index}, args...)...)
	}
	cert, key := filepath.Join(dir, "server-cert.pem"), filepath.Join(dir, "server-key.pem")
	complaint(t, serve("--tls-certificates="+shortDir(t)), "server-cert.pem", "no such file")
	complaint(t, serve("--tls-cert="+cert, "--tls-key="+filepath.Join(dir, "client-key.pem")), cert, "client-key.pem", "match")
	complaint(t, serve("--tls-cert="+cert, "--tls-key="+key, "--tls-ca="+key), key, "no certificate")
	complaintOf(t, serve("--tls-cert="+cert), 2, "--tls-key")
	if err := os.Remove(filepath.Join(dir, "ca-cert.pem")); err != nil {
		t.Fatal(err)
	}
	// Without an authority in the folder nobody need show a certificate.
	server, _ := startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), "--tls-certificates="+dir, d.index)
	server.ends(syscall.SIGTERM, soon)
}

package nbd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/nbd"
)

// An authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	c := a.issue(t, "authority")
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for a name, the authority's own one first.
func (a *authority) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             time.Unix(0, 0), // as early as the clock of a synctest bubble
		NotAfter:              time.Now().Add(100 * 365 * 24 * time.Hour),
		IsCA:                  a.cert == nil,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// server is how a server uses TLS that has the authority's certificate.
func (a *authority) server(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue(t, "host")}}
}

// client is how one of its clients does.
func (a *authority) client(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: a.pool, ServerName: "host", Certificates: certs}
}

// startTLS does STARTTLS and the handshake.
func (c *client) startTLS(config *tls.Config) error {
	c.Helper()
	c.option(optStartTLS, nil)
	c.wantReply(optStartTLS, repAck)
	over := tls.Client(c.Conn, config)
	if err := over.Handshake(); err != nil {
		return err
	}
	c.Conn = over
	return nil
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var log lockedBuffer
		opt := nbd.Options{TLS: a.server(t), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		w := &slate{data: patterned(0, 2*mib)}
		socket := serve(t, opt, append(twoExports(), nbd.Export{Name: "w", Size: 2 * mib, Reader: w})...)
		c := greeted(t, socket, 3)
		config := a.client()
		config.MaxVersion = version
		if err := c.startTLS(config); err != nil {
			t.Fatal(err)
		}
		c.option(optStartTLS, nil)
		c.wantReply(optStartTLS, errInvalid) // it is on already
		c.option(optStructured, nil)
		c.wantReply(optStructured, repAck)
		c.structured = true
		c.choose("w")
		c.wantRead(3, mib)
		c.wantRead(2*mib-1, 1)
		c.request(flagFUA, cmdWrite, 4, 0, mib)
		c.send(patterned(0, mib))
		if code := c.answer(4); code != 0 {
			t.Errorf("error %d", code)
		}
		c.wantRead(0, 2*mib)
		c.request(0, cmdDisc, 0, 0, 0)
		c.wantEnd() // with a close_notify: without, reading would fail
		if got := log.String(); !strings.Contains(got, `msg="nbd: over TLS" `) || !strings.Contains(got, tls.VersionName(version)) {
			t.Errorf("log: %s", got)
		}
		open(t, socket, "disk", false).wantRead(0, 4096) // it is up to the client
	}
}

func TestTLSIsLeftOut(t *testing.T) {
	c := greeted(t, serve(t, nbd.Options{}, twoExports()...), 3)
	c.option(optStartTLS, nil)
	c.wantReply(optStartTLS, errUnsup)
	if _, err := nbd.NewServer(twoExports(), nbd.Options{TLSRequired: true}); err == nil || !strings.Contains(err.Error(), "TLS required") {
		t.Errorf("got %v", err)
	}
}

func TestTLSRequired(t *testing.T) {
	a := newAuthority(t)
	socket := serve(t, nbd.Options{TLS: a.server(t), TLSRequired: true}, twoExports()...)
	c := greeted(t, socket, 3)
	for _, id := range []uint32{4, optList, optInfo, optGo, optStructured, optListMeta, optSetMeta, 11, 99} {
		c.option(id, goData("disk"))
		c.wantReply(id, errTLSReqd)
	}
	c.option(optStartTLS, []byte{1})
	c.wantReply(optStartTLS, errInvalid)
	if err := c.startTLS(a.client()); err != nil {
		t.Fatal(err)
	}
	c.choose("disk")
	c.wantRead(10*mib, 1)

	c = greeted(t, socket, 3)
	c.option(optExportName, []byte("disk"))
	c.wantEnd()
	c = greeted(t, socket, 3)
	c.option(optAbort, nil)
	c.wantReply(optAbort, repAck)
	c.wantEnd()
	c = greeted(t, socket, 3) // and so it is over TLS
	if err := c.startTLS(a.client()); err != nil {
		t.Fatal(err)
	}
	c.option(optAbort, nil)
	c.wantReply(optAbort, repAck)
	c.wantEnd()
}

// What was agreed on in the clear, perhaps by somebody else, is forgotten.
func TestTLSForgets(t *testing.T) {
	a := newAuthority(t)
	c := greeted(t, serve(t, nbd.Options{TLS: a.server(t)}, twoExports()...), 3)
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	c.option(optSetMeta, metaData("sparse", "base:allocation"))
	c.wantReply(optSetMeta, repMeta)
	c.wantReply(optSetMeta, repAck)
	if err := c.startTLS(a.client()); err != nil {
		t.Fatal(err)
	}
	c.option(optSetMeta, metaData("sparse", "base:allocation"))
	c.wantReply(optSetMeta, errInvalid) // no structured replies
	c.choose("sparse")
	c.wantRead(0, 4096) // by a simple reply
	c.request(0, cmdBlockStatus, 1, 0, 4096)
	if _, code, _ := c.simple(0); code != einval {
		t.Errorf("block status: error %d", code)
	}
}

// Bytes in the clear behind STARTTLS come from who sits on the line: they end
// it all, whether they came at once or just before the handshake.
func TestTLSInjection(t *testing.T) {
	a := newAuthority(t)
	socket := serve(t, nbd.Options{TLS: a.server(t)}, twoExports()...)
	injected := optionBytes(optStructured, nil)
	t.Run("at once", func(t *testing.T) {
		c := greeted(t, socket, 3)
		c.send(append(optionBytes(optStartTLS, nil), injected...))
		if n, err := io.Copy(io.Discard, c.Conn); n > 0 {
			t.Errorf("%d bytes of answer (%v)", n, err)
		}
	})
	t.Run("before the handshake", func(t *testing.T) {
		c := greeted(t, socket, 3)
		c.option(optStartTLS, nil)
		c.wantReply(optStartTLS, repAck)
		c.send(injected)
		// Then the client begins, and knows of nothing.
		if err := tls.Client(c.Conn, a.client()).Handshake(); err == nil {
			t.Error("the handshake went on")
		}
	})
	t.Run("into the first record", func(t *testing.T) {
		c := greeted(t, socket, 3)
		if err := c.startTLS(a.client()); err != nil {
			t.Fatal(err)
		}
		c.Conn.(*tls.Conn).NetConn().Write(injected)
		c.Conn.Write(optionBytes(optList, nil)) // may fail if the server is quick
		if _, err := io.ReadAll(c.Conn); err == nil {
			t.Error("the server goes on")
		}
	})
}

func TestTLSClientCertificates(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	config := a.server(t)
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
	var log lockedBuffer
	socket := serve(t, nbd.Options{TLS: config, TLSRequired: true, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, twoExports()...)
	c := greeted(t, socket, 3)
	if err := c.startTLS(a.client(a.issue(t, "reader-7"))); err != nil {
		t.Fatal(err)
	}
	c.choose("disk")
	c.wantRead(0, 4096)
	if got := log.String(); !strings.Contains(got, "subject=\"CN=reader-7\"") && !strings.Contains(got, "subject=CN=reader-7") {
		t.Errorf("log: %s", got)
	}
	for name, certs := range map[string][]tls.Certificate{"none": nil, "another authority's": {stranger.issue(t, "reader-7")}} {
		c := greeted(t, socket, 3)
		if c.startTLS(a.client(certs...)) != nil {
			continue // TLS 1.3 tells the client later
		}
		c.Conn.Write(optionBytes(optList, nil))
		if n, err := c.Conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: %d bytes of answer", name, n)
		}
	}
}

// TestTLSHandshakeTimeLimit has clients that say nothing, or little by little.
func TestTLSHandshakeTimeLimit(t *testing.T) {
	a := newAuthority(t)
	config := a.server(t)
	for _, drip := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, err := nbd.NewServer(twoExports(), nbd.Options{TLS: config})
			if err != nil {
				t.Fatal(err)
			}
			near, far := net.Pipe()
			done := make(chan error, 1)
			start := time.Now()
			var took time.Duration
			go func() {
				err := s.ServeConn(t.Context(), far)
				took = time.Since(start)
				done <- err
			}()
			c := &client{TB: t, Conn: near}
			c.bytes(18)
			c.send(uint32(3))
			c.option(optStartTLS, nil)
			c.wantReply(optStartTLS, repAck)
			// A record of a handshake, 512 bytes long, that never is complete.
			for hello := append([]byte{22, 3, 1, 2, 0}, make([]byte, 512)...); drip; hello = hello[1:] {
				if _, err := c.Write(hello[:1]); err != nil {
					break
				}
				time.Sleep(1500 * time.Millisecond)
			}
			if err := <-done; err == nil || !strings.Contains(err.Error(), "timeout") || !strings.Contains(err.Error(), "TLS") {
				t.Errorf("drip %t: got %v", drip, err)
			}
			if took != 10*time.Second {
				t.Errorf("drip %t: took %v", drip, took)
			}
		})
	}
}

// A client that leaves in the middle of the handshake, and a stop during one,
// end it.
func TestTLSHandshakeCutOff(t *testing.T) {
	a := newAuthority(t)
	socket := serve(t, nbd.Options{TLS: a.server(t)}, twoExports()...)
	for range 2 { // the second one is still there when the server ends
		c := greeted(t, socket, 3)
		c.option(optStartTLS, nil)
		c.wantReply(optStartTLS, repAck)
		c.send([]byte{22, 3, 1, 2})
	}
	c := greeted(t, socket, 3)
	c.option(optStartTLS, nil)
	c.wantReply(optStartTLS, repAck)
	c.Close()
	open(t, socket, "disk", false).wantRead(0, 1)
}

// counting counts what passes a connection by records of TLS.
type counting struct {
	net.Conn
	writes *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// Many small replies share a record.
func TestTLSGathersReplies(t *testing.T) {
	a := newAuthority(t)
	s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: sparseReader{{0, 4096}, {8192, 4096}, {16384, 4096}, {24576, 4096}}}}, nbd.Options{TLS: a.server(t)})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	var writes atomic.Int64
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(t.Context(), counting{far, &writes}) }()
	c := &client{TB: t, Conn: near}
	c.bytes(18)
	c.send(uint32(3))
	if err := c.startTLS(a.client()); err != nil {
		t.Fatal(err)
	}
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	c.choose("")
	before := writes.Load()
	const requests = 20
	var batch []byte
	for i := range requests { // chunks in turns: hole, data, and so on
		batch = append(batch, requestBytes(0, cmdRead, uint64(i), 0, 5000)...)
	}
	go c.Conn.Write(batch)
	for range requests {
		for k := c.chunk(); k.flags != 1; k = c.chunk() {
		}
	}
	if n := writes.Load() - before; n > requests {
		t.Errorf("%d records for %d replies of two chunks", n, requests)
	}
	c.Conn.(*tls.Conn).NetConn().Close()
	<-done
}

// The server's stop is told to clients over TLS as an end, not as a cut.
func TestTLSGracefulStop(t *testing.T) {
	a := newAuthority(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := nbd.NewServer(twoExports(), nbd.Options{TLS: a.server(t)})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(ctx, far) }()
	c := &client{TB: t, Conn: near}
	c.bytes(18)
	c.send(uint32(3))
	if err := c.startTLS(a.client()); err != nil {
		t.Fatal(err)
	}
	c.choose("disk")
	c.wantRead(0, 4096)
	cancel()
	if rest, err := io.ReadAll(c.Conn); err != nil || len(rest) > 0 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

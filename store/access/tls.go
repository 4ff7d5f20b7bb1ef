package access

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	nethttp "net/http"
	"os"

	"caravel/config"
	"caravel/store/http"
)

// certificates are whom we trust, and who we are.
type certificates struct {
	ca, cert, key string // files; "": none
	insecure      bool
}

// A client is a set of connections that are made with the same certificates.
type client struct {
	http *nethttp.Client
	tls  *tls.Config // nil: the system's authorities, and nobody
}

// client finds the connections for settings, or begins new ones.
func (a *Access) client(s config.Settings) (client, error) {
	key := certificates{s.CACert, s.ClientCert, s.ClientKey, s.TrustInsecure}
	a.mu.Lock()
	c, ok := a.clients[key]
	a.mu.Unlock()
	if ok {
		return c, nil
	}
	secure, err := key.load()
	if err != nil {
		return client{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.clients[key]; ok { // somebody was faster
		return c, nil
	}
	c = client{http.NewClient(http.Options{TLS: secure}), secure}
	a.clients[key] = c
	return c, nil
}

// load reads the files.
func (c certificates) load() (*tls.Config, error) {
	if c == (certificates{}) {
		return nil, nil
	}
	secure := &tls.Config{InsecureSkipVerify: c.insecure}
	if c.ca != "" {
		content, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("access: ca-cert: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("access: ca-cert: %s: holds no certificate in PEM", c.ca)
		}
	}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, fmt.Errorf("access: client-cert %s, client-key %s: %w", c.cert, c.key, err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	return secure, nil
}

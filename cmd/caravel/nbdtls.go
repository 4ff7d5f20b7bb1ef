package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

// tlsOptions say how a server proves who it is, and whether clients must.
type tlsOptions struct {
	cert, key string // PEM files; "": there is no TLS
	ca        string // whose certificates clients must have; "": they need none
	dir       string // with the three under libnbd's and qemu's names
	required  bool
}

func tlsFlags(opt *tlsOptions) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "tls-cert", Usage: "offer TLS with the certificate, and those between it and its authority, in `FILE` (PEM)", Destination: &opt.cert},
		&cli.StringFlag{Name: "tls-key", Usage: "its private key is in `FILE`", Destination: &opt.key},
		&cli.StringFlag{Name: "tls-ca", Usage: "over TLS serve only clients with a certificate of an authority in `FILE`", Destination: &opt.ca},
		&cli.StringFlag{Name: "tls-certificates", Usage: "take these from `DIR`: server-cert.pem, server-key.pem, and if it is there ca-cert.pem", Destination: &opt.dir},
		newSwitch("tls-required", "serve nobody without TLS", &opt.required),
	}
}

// wanted reports whether there is TLS.
func (o tlsOptions) wanted() bool { return o.cert != "" || o.dir != "" }

// config reads the files; nil without TLS.
func (o tlsOptions) config() (*tls.Config, error) {
	o, err := o.files()
	if err != nil || !o.wanted() {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, naming(err, o.cert+" and "+o.key)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if o.ca == "" {
		return config, nil
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", o.ca)
	}
	config.ClientAuth = tls.RequireAnyClientCert
	config.VerifyConnection = func(s tls.ConnectionState) error { return known(s.PeerCertificates, authorities) }
	return config, nil
}

// known checks a client's certificate, with those behind it, as crypto/tls would do
// it, which also tells the client whose certificates it takes (ClientCAs). Told that,
// GnuTLS 3.7, which libnbd and qemu have, shows no RSA certificate: it wants the
// signature of PKCS #1 in the list, which crypto/tls does not offer in TLS 1.3.
func known(certs []*x509.Certificate, authorities *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// files are the options with the files of the folder, if one is named.
func (o tlsOptions) files() (tlsOptions, error) {
	switch {
	case o.dir != "" && (o.cert != "" || o.key != "" || o.ca != ""):
		return o, usagef("--tls-certificates stands for --tls-cert, --tls-key and --tls-ca; say one or the other")
	case (o.cert == "") != (o.key == ""):
		return o, usagef("--tls-cert and --tls-key need each other")
	case !o.wanted() && (o.required || o.ca != ""):
		return o, usagef("--tls-required and --tls-ca need --tls-cert and --tls-key")
	case o.dir == "":
		return o, nil
	}
	o.cert, o.key = filepath.Join(o.dir, "server-cert.pem"), filepath.Join(o.dir, "server-key.pem")
	ca := filepath.Join(o.dir, "ca-cert.pem")
	if _, err := os.Stat(ca); !errors.Is(err, fs.ErrNotExist) {
		o.ca = ca
	}
	return o, nil
}

// naming is err with the files that it is about, if it does not say that itself.
func naming(err error, files string) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("%s: %s", files, strings.TrimPrefix(err.Error(), "tls: "))
}

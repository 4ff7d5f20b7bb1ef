package http

import (
	"cmp"
	"net"
	nethttp "net/http"
	"time"
)

// NewClient makes the client that New makes if it is given none: no limit on
// connections, as many kept as a fetch queue has in flight, HTTP/2 where TLS
// offers it, the proxy from the environment.
func NewClient(opt Options) *nethttp.Client {
	t := newTransport(opt)
	if opt.TLS == nil || len(opt.TLS.Certificates) == 0 && opt.TLS.GetClientCertificate == nil {
		return &nethttp.Client{Transport: t}
	}
	bare := opt
	bare.TLS = opt.TLS.Clone()
	bare.TLS.Certificates, bare.TLS.GetClientCertificate = nil, nil
	return &nethttp.Client{Transport: &certified{t, newTransport(bare)}}
}

func newTransport(opt Options) *nethttp.Transport {
	connect := cmp.Or(opt.Connect, 10*time.Second)
	dialer := net.Dialer{Timeout: connect}
	return &nethttp.Transport{
		Proxy:                  nethttp.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    connect,
		TLSClientConfig:        opt.TLS.Clone(), // the transport changes it
		ExpectContinueTimeout:  time.Second,     // for servers that know nothing of it
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        cmp.Or(opt.Idle, 90*time.Second),
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		// Finds out that a shared connection is dead while requests wait on it.
		HTTP2: &nethttp.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// certified are connections on which a certificate is shown to the server, and those
// to the servers which it redirects to, on which none is.
type certified struct {
	*nethttp.Transport
	others *nethttp.Transport
}

// Others leads to the servers which ours redirects to.
func (c *certified) Others() nethttp.RoundTripper { return c.others }

// Others are the connections to any host but the one that conns are for: those on which
// no client's certificate is shown. What wraps the Transport of NewClient's has a method
// Others that does so with these; else they are conns.
func Others(conns nethttp.RoundTripper) nethttp.RoundTripper {
	if c, ok := conns.(interface{ Others() nethttp.RoundTripper }); ok {
		return c.Others()
	}
	return conns
}

// CloseIdleConnections is for nethttp.Client's.
func (c *certified) CloseIdleConnections() {
	c.Transport.CloseIdleConnections()
	c.others.CloseIdleConnections()
}

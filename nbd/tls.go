package nbd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// record is how many bytes a record of TLS holds.
const record = 16 << 10

// startTLS answers STARTTLS, and makes the connection one over TLS if that is
// what the server does.
func (n *negotiation) startTLS(id uint32, data []byte) error {
	switch {
	case n.srv.opt.TLS == nil:
		n.refuse(id, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, "there is no TLS here")
		return nil
	case n.tls != nil:
		n.refuse(id, repErrInvalid, "TLS is on already")
		return nil
	case len(data) > 0:
		n.refuse(id, repErrInvalid, "STARTTLS takes no data")
		return nil
	case n.in.Buffered() > 0:
		// A client waits for the answer. These bytes, put in by who sits on the
		// line, would be taken for its own.
		return errors.New("bytes in the clear behind STARTTLS")
	}
	n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
	if err := n.out.Flush(); err != nil {
		return err
	}
	over := tls.Server(n.net, n.srv.opt.TLS)
	if err := over.Handshake(); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	n.conn.tls = over
	n.in = bufio.NewReaderSize(over, record)
	n.out = bufio.NewWriterSize(over, 1<<10)
	n.conn.out.sealed = bufio.NewWriterSize(over, record)
	// Whoever said these may have been another one.
	n.structured, n.set, n.setFor = false, nil, nil
	n.logPeer()
	return nil
}

// logPeer says who has shown what certificate.
func (n *negotiation) logPeer() {
	s := n.tls.ConnectionState()
	subject := ""
	if len(s.PeerCertificates) > 0 {
		subject = s.PeerCertificates[0].Subject.String()
	}
	n.log.Debug("nbd: over TLS", "version", tls.VersionName(s.Version), "subject", subject)
}

// farewell tells a client over TLS that nothing was cut off.
func (c *conn) farewell() {
	if c.tls != nil {
		_ = c.tls.CloseWrite() // it may be gone
	}
}

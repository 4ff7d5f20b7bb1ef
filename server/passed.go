package server

import (
	"errors"
	"io"
	"net"
)

// A passed is a connection on which net/http goes on, from the bytes that were read of
// it on.
type passed struct {
	net.Conn
	before []byte // what was read
}

func (p *passed) Read(b []byte) (int, error) {
	if len(p.before) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.before)
	if p.before = p.before[n:]; len(p.before) == 0 {
		p.before = nil // it need not stay in memory
	}
	return n, nil
}

// ReadFrom is for net/http, which so has the kernel send files.
func (p *passed) ReadFrom(r io.Reader) (int64, error) {
	if to, ok := p.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{p.Conn}, r)
}

// CloseWrite is for net/http, which so has a client read the answer to what it goes on
// sending.
func (p *passed) CloseWrite() error {
	if to, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return to.CloseWrite()
	}
	return errors.ErrUnsupported
}

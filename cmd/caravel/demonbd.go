package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// An nbdClient reads the default export of a server, one request at a time: as
// much of a client as the demo needs.
type nbdClient struct {
	mu sync.Mutex // guards conn and handle
	net.Conn
	handle uint64
}

// dialNBD connects to host:port/ and chooses the default export.
func dialNBD(addr string) (*nbdClient, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &nbdClient{Conn: conn}
	if err := c.negotiate(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("nbd://%s: %w", addr, err)
	}
	return c, nil
}

// negotiate asks for the default export by NBD_OPT_EXPORT_NAME, the option that
// has the shortest answer: size, flags and nothing else.
func (c *nbdClient) negotiate() error {
	var hello protocol.NegotiationNewstyleHeader
	if err := binary.Read(c, binary.BigEndian, &hello); err != nil {
		return err
	}
	if hello.OldstyleMagic != protocol.NEGOTIATION_MAGIC_OLDSTYLE || hello.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
		return fmt.Errorf("not an NBD server")
	}
	const noZeroes, exportName = 1 << 1, 1
	flags := uint32(hello.HandshakeFlags) & (uint32(protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE) | noZeroes)
	request := protocol.NegotiationOptionHeader{OptionMagic: protocol.NEGOTIATION_MAGIC_OPTION, ID: exportName}
	if err := binary.Write(c, binary.BigEndian, flags); err != nil {
		return err
	}
	if err := binary.Write(c, binary.BigEndian, request); err != nil {
		return err
	}
	var export struct {
		Size  uint64
		Flags uint16
	}
	return binary.Read(c, binary.BigEndian, &export)
}

// ReadAt reads in pieces that every server takes.
func (c *nbdClient) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const most = 1 << 20
	for done := 0; done < len(p); {
		n := min(most, len(p)-done)
		if err := c.read(p[done:done+n], off+int64(done)); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

func (c *nbdClient) read(p []byte, off int64) error {
	c.handle++
	request := protocol.TransmissionRequestHeader{
		RequestMagic: protocol.TRANSMISSION_MAGIC_REQUEST,
		Type:         protocol.TRANSMISSION_TYPE_REQUEST_READ,
		Handle:       c.handle,
		Offset:       uint64(off),
		Length:       uint32(len(p)),
	}
	if err := binary.Write(c, binary.BigEndian, request); err != nil {
		return err
	}
	var reply protocol.TransmissionReplyHeader
	if err := binary.Read(c, binary.BigEndian, &reply); err != nil {
		return err
	}
	switch {
	case reply.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY || reply.Handle != c.handle:
		return fmt.Errorf("nbd: an answer that was not asked for")
	case reply.Error != 0:
		return fmt.Errorf("nbd: %d bytes at %d: error %d", len(p), off, reply.Error)
	}
	_, err := io.ReadFull(c, p)
	return err
}

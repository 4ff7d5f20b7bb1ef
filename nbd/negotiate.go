package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

var errTimeout = os.ErrDeadlineExceeded

// A negotiation is the first phase of a connection: the client sends options,
// one at a time, until one of them chooses an export or ends it all.
type negotiation struct {
	*conn
	out      *bufio.Writer
	noZeroes bool
	set      []metaContext // that the client has selected
	setFor   *export       // nil: for none
}

// negotiate returns the export chosen, or nil if the client left in peace.
func (c *conn) negotiate() (*export, error) {
	if err := c.setDeadline(time.Now().Add(c.srv.opt.Negotiation)); err != nil {
		return nil, err
	}
	n := &negotiation{conn: c, out: bufio.NewWriterSize(c.net, 1<<10)}
	if err := n.greet(); err != nil {
		return nil, err
	}
	for range maxOptions {
		chosen, err := n.option()
		if errors.Is(err, errLeave) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if chosen != nil {
			if n.setFor == chosen {
				c.contexts = n.set
			}
			return chosen, c.setDeadline(time.Time{})
		}
	}
	return nil, fmt.Errorf("more than %d options", maxOptions)
}

// errLeave says that the client ended the negotiation as it may.
var errLeave = errors.New("client left")

func (n *negotiation) greet() error {
	n.put(protocol.NegotiationNewstyleHeader{
		OldstyleMagic:  protocol.NEGOTIATION_MAGIC_OLDSTYLE,
		OptionMagic:    protocol.NEGOTIATION_MAGIC_OPTION,
		HandshakeFlags: serverFlags,
	})
	if err := n.out.Flush(); err != nil {
		return err
	}
	var b [4]byte
	if _, err := io.ReadFull(n.in, b[:]); err != nil {
		return fmt.Errorf("client flags: %w", err)
	}
	flags := binary.BigEndian.Uint32(b[:])
	if flags&^(clientFixedNewstyle|clientNoZeroes) != 0 {
		return fmt.Errorf("client flags %#x: want none but %#x", flags, clientFixedNewstyle|clientNoZeroes)
	}
	n.noZeroes = flags&clientNoZeroes != 0
	return nil
}

// option reads one option and answers it. It returns the export if the option
// has chosen one, and errLeave if the client leaves.
func (n *negotiation) option() (*export, error) {
	var b [16]byte
	if _, err := io.ReadFull(n.in, b[:]); err == io.EOF {
		return nil, errLeave
	} else if err != nil {
		return nil, fmt.Errorf("option header: %w", err)
	}
	h := protocol.NegotiationOptionHeader{
		OptionMagic: binary.BigEndian.Uint64(b[:]),
		ID:          binary.BigEndian.Uint32(b[8:]),
		Length:      binary.BigEndian.Uint32(b[12:]),
	}
	if h.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
		return nil, fmt.Errorf("option magic %#x: want %#x", h.OptionMagic, protocol.NEGOTIATION_MAGIC_OPTION)
	}
	if h.Length > maxOption {
		return nil, fmt.Errorf("option %d: %d bytes: more than %d", h.ID, h.Length, maxOption)
	}
	data := make([]byte, h.Length)
	if _, err := io.ReadFull(n.in, data); err != nil {
		return nil, fmt.Errorf("option %d: %w", h.ID, err)
	}
	chosen, err := n.answer(h.ID, data)
	// The answer to an ABORT may find the client gone.
	if flushed := n.out.Flush(); err == nil && flushed != nil {
		return nil, flushed
	}
	return chosen, err
}

func (n *negotiation) answer(id uint32, data []byte) (*export, error) {
	if n.srv.opt.TLSRequired && n.tls == nil && id != optStartTLS && id != protocol.NEGOTIATION_ID_OPTION_ABORT {
		if id == optExportName { // knows no error reply
			return nil, errors.New("export asked for without TLS")
		}
		n.refuse(id, repErrTLS, "TLS is required")
		return nil, nil
	}
	switch id {
	case optExportName:
		return n.exportName(string(data))
	case protocol.NEGOTIATION_ID_OPTION_ABORT:
		n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
		return nil, errLeave
	case protocol.NEGOTIATION_ID_OPTION_LIST:
		n.list(id, data)
	case protocol.NEGOTIATION_ID_OPTION_INFO:
		n.info(id, data)
	case protocol.NEGOTIATION_ID_OPTION_GO:
		return n.info(id, data), nil
	case optStartTLS:
		return nil, n.startTLS(id, data)
	case optStructuredReply:
		n.structuredReply(id, data)
	case optListMetaContext, optSetMetaContext:
		n.metaContext(id, data)
	default:
		n.refuse(id, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, "option not supported")
	}
	return nil, nil
}

// exportName answers the oldest way of choosing, which knows no error reply.
func (n *negotiation) exportName(name string) (*export, error) {
	if len(name) > maxName {
		return nil, fmt.Errorf("export name of %d bytes: more than %d", len(name), maxName)
	}
	x := n.srv.byName[name]
	if x == nil {
		return nil, fmt.Errorf("export %q: no such export", name)
	}
	n.put(uint64(x.Size))
	n.put(x.flags(n.structured))
	if !n.noZeroes {
		n.put([124]byte{})
	}
	return x, nil
}

func (n *negotiation) list(id uint32, data []byte) {
	if len(data) > 0 {
		n.refuse(id, repErrInvalid, "LIST takes no data")
		return
	}
	if n.srv.opt.Unlisted {
		n.refuse(id, repErrPolicy, "exports are not listed")
		return
	}
	for _, x := range n.srv.exports {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(x.Name)))
		b = append(b, x.Name...)
		n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_SERVER, append(b, x.Description...))
	}
	n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
}

func (n *negotiation) structuredReply(id uint32, data []byte) {
	if len(data) > 0 {
		n.refuse(id, repErrInvalid, "STRUCTURED_REPLY takes no data")
		return
	}
	n.structured = true
	n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
}

// reply sends one reply to option id. Its error, as put's, is the one that
// Flush will return.
func (n *negotiation) reply(id, kind uint32, data []byte) {
	n.put(protocol.NegotiationReplyHeader{
		ReplyMagic: protocol.NEGOTIATION_MAGIC_REPLY,
		ID:         id,
		Type:       kind,
		Length:     uint32(len(data)),
	})
	n.out.Write(data)
}

// refuse sends an error reply with a message for people.
func (n *negotiation) refuse(id, kind uint32, why string) {
	n.log.Debug("nbd: option refused", "option", id, "why", why)
	n.reply(id, kind, []byte(why))
}

func (n *negotiation) put(v any) { binary.Write(n.out, binary.BigEndian, v) }

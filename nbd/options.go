package nbd

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// info answers INFO and GO alike, and returns the export if it knows it.
func (n *negotiation) info(id uint32, data []byte) *export {
	d := &fields{rest: data}
	name := d.text()
	var wanted []uint16
	for count := d.uint16(); count > 0 && !d.short; count-- {
		wanted = append(wanted, d.uint16())
	}
	x := n.find(id, d, name)
	if x == nil {
		return nil
	}
	n.inform(id, protocol.NegotiationReplyInfo{
		Type:              protocol.NEGOTIATION_TYPE_INFO_EXPORT,
		Size:              uint64(x.Size),
		TransmissionFlags: x.flags(n.structured),
	}, "")
	n.inform(id, protocol.NegotiationReplyBlockSize{
		Type:               protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE,
		MinimumBlockSize:   1,
		PreferredBlockSize: uint32(x.Preferred),
		MaximumBlockSize:   maxPayload,
	}, "")
	if slices.Contains(wanted, protocol.NEGOTIATION_TYPE_INFO_NAME) {
		n.inform(id, protocol.NEGOTIATION_TYPE_INFO_NAME, x.Name)
	}
	if slices.Contains(wanted, protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION) && x.Description != "" {
		n.inform(id, protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION, x.Description)
	}
	n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
	return x
}

// inform sends one information: a fixed part and a text.
func (n *negotiation) inform(id uint32, fixed any, text string) {
	// Fixed sizes are encoded without an error.
	b, _ := binary.Append(nil, binary.BigEndian, fixed)
	n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_INFO, append(b, text...))
}

// find looks up the export that the data d of option id names. If there is
// none, or if d is not as it should be, it says so to the client.
func (n *negotiation) find(id uint32, d *fields, name string) *export {
	if !d.complete() {
		n.refuse(id, repErrInvalid, "malformed option")
		return nil
	}
	if len(name) > maxName {
		n.refuse(id, repErrTooBig, fmt.Sprintf("export name over %d bytes", maxName))
		return nil
	}
	x := n.srv.byName[name]
	if x == nil {
		n.refuse(id, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN, fmt.Sprintf("no export %.100q", name))
	}
	return x
}

// fields takes an option's data apart. Past the end everything is zero, and
// short is set.
type fields struct {
	rest  []byte
	short bool
}

// complete reports whether the data was exactly what has been taken.
func (d *fields) complete() bool { return !d.short && len(d.rest) == 0 }

// text takes a string with its length in front.
func (d *fields) text() string { return string(d.take(d.uint32())) }

func (d *fields) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *fields) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *fields) take(n uint32) []byte {
	if d.short || uint64(n) > uint64(len(d.rest)) {
		d.short = true
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

package nbd

import (
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// ranges yields offset and length of the parts of n bytes at off that have
// something in common.
type ranges func(off, n int64) iter.Seq2[int64, int64]

// A metaContext is one of the things that BLOCK_STATUS tells of an export.
type metaContext struct {
	name  string
	id    uint32               // within a connection
	state uint32               // of the ranges; all else has 0
	of    func(*export) ranges // nil ranges: the export does not offer it
}

// metaContexts are all that there are.
func metaContexts() []metaContext {
	return []metaContext{
		{"base:allocation", 1, stateHole | stateZero, func(x *export) ranges {
			if x.sparse == nil {
				return nil
			}
			return x.sparse.Holes
		}},
		{"caravel:cached", 2, stateLocal, func(x *export) ranges {
			if x.partial == nil {
				return nil
			}
			return x.partial.Local
		}},
	}
}

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (n *negotiation) metaContext(id uint32, data []byte) {
	set := id == optSetMetaContext
	if set {
		n.set, n.setFor = nil, nil
	}
	if !n.structured {
		n.refuse(id, repErrInvalid, "metadata contexts need structured replies")
		return
	}
	d := &fields{rest: data}
	name := d.text()
	var queries []string
	for count := d.uint32(); count > 0 && !d.short; count-- {
		queries = append(queries, d.text())
	}
	x := n.find(id, d, name)
	if x == nil {
		return
	}
	for _, m := range metaContexts() {
		if m.of(x) == nil || !m.asked(queries, set) {
			continue
		}
		number := uint32(0)
		if set {
			n.set, n.setFor, number = append(n.set, m), x, m.id
		}
		b := binary.BigEndian.AppendUint32(nil, number)
		n.reply(id, repMetaContext, append(b, m.name...))
	}
	n.reply(id, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
}

// asked reports whether queries are for m. In lists, "base:" is all that begins
// so, and no query is everything; neither selects anything.
func (m metaContext) asked(queries []string, set bool) bool {
	space, _, _ := strings.Cut(m.name, ":")
	return slices.Contains(queries, m.name) ||
		!set && (len(queries) == 0 || slices.Contains(queries, space+":"))
}

// maxStatus is how many runs one reply tells of; a client asks on from there.
const maxStatus = 4 << 10

// runSize is the bytes that a run takes in a reply.
const runSize = 8

// runs is how many the reply to a BLOCK_STATUS may tell of for each context.
func (j *job) runs() int {
	if j.CommandFlags&cmdFlagReqOne != 0 {
		return 1
	}
	return maxStatus
}

// status answers a BLOCK_STATUS with a chunk for each context that was selected.
func (c *conn) status(j *job) {
	b := j.head[:0]
	for i, m := range c.contexts {
		flags := uint16(0)
		if i == len(c.contexts)-1 {
			flags = replyDone
		}
		start := len(b)
		b = append(b, make([]byte, chunkSize)...)
		b = binary.BigEndian.AppendUint32(b, m.id)
		b = c.export.appendStatus(b, m, j, j.runs())
		appendChunk(b[start:start], j, flags, replyStatus, len(b)-start-chunkSize)
	}
	j.head = b
	j.frames = append(j.frames[:0], b)
}

// appendStatus appends the first runs, limit at most, of what j asks for.
func (x *export) appendStatus(b []byte, m metaContext, j *job, limit int) []byte {
	off, n := int64(j.Offset), int64(j.Length)
	end := off + n
	known := func(off, n int64) iter.Seq2[int64, int64] { return upTo(&end, off, m.of(x)(off, n)) }
	for r := range runs(known, off, n, 1) {
		size := min(r.n, end-r.off)
		if size <= 0 || limit == 0 {
			break
		}
		state := uint32(0)
		if r.in {
			state = m.state
		}
		b = binary.BigEndian.AppendUint32(b, uint32(size))
		b = binary.BigEndian.AppendUint32(b, state)
		limit--
	}
	return b
}

// upTo yields what seq does before a range of length 0, and makes that the end
// if it lies between off and end.
func upTo(end *int64, off int64, seq iter.Seq2[int64, int64]) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for at, n := range seq {
			if n == 0 {
				if at > off { // a reply must tell of something
					*end = min(*end, at)
				}
				return
			}
			if !yield(at, n) {
				return
			}
		}
	}
}

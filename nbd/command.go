package nbd

import (
	"encoding/binary"
	"io"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	errPerm    = protocol.TRANSMISSION_ERROR_EPERM
	errInvalid = protocol.TRANSMISSION_ERROR_EINVAL
)

// check returns the protocol's error for a request that is refused unread.
func (c *conn) check(j *job) uint32 {
	flags := uint16(0) // that the command may have
	switch j.Type {
	case protocol.TRANSMISSION_TYPE_REQUEST_WRITE, cmdTrim, cmdWriteZeroes:
		return errPerm
	case cmdFlush:
		return 0
	case protocol.TRANSMISSION_TYPE_REQUEST_READ:
		if c.structured {
			flags = cmdFlagDF
		}
	case cmdCache:
		if c.export.wanter == nil {
			return errInvalid
		}
	case cmdBlockStatus:
		if !c.allocation || j.Length == 0 {
			return errInvalid
		}
		flags = cmdFlagReqOne
	default:
		return errInvalid
	}
	size := uint64(c.export.Size)
	switch {
	case j.CommandFlags&^flags != 0:
		return errInvalid
	case j.Offset > size || uint64(j.Length) > size-j.Offset:
		return errInvalid
	case j.Type == protocol.TRANSMISSION_TYPE_REQUEST_READ && j.Length > maxPayload:
		return c.tooLong()
	}
	return 0
}

// tooLong is the error for a read over the maximum: the protocol keeps
// EOVERFLOW for clients that know of structured replies.
func (c *conn) tooLong() uint32 {
	if c.structured {
		return errOverflow
	}
	return errInvalid
}

// handle makes the reply to j.
func (c *conn) handle(j *job) {
	switch {
	case j.error != 0 && c.structured:
		j.chunkError(-1, refusal(j.error))
	case j.error != 0:
		j.simple()
	case j.Type == protocol.TRANSMISSION_TYPE_REQUEST_READ:
		c.read(j)
	case j.Type == cmdBlockStatus:
		c.status(j)
	case j.Type == cmdCache:
		c.export.wanter.Want(int64(j.Offset), int64(j.Length))
		j.simple()
	default: // FLUSH: there is nothing to be written
		j.simple()
	}
}

// refusal says to people what an error of check means.
func refusal(code uint32) string {
	switch code {
	case errPerm:
		return "the export is read-only"
	case errOverflow:
		return "longer than the maximum of 32 MiB"
	}
	return "not supported, or outside the export"
}

func (c *conn) read(j *job) {
	switch {
	case j.Length == 0 && c.structured:
		j.chunkNone()
	case j.Length == 0:
		j.simple()
	case c.structured && c.export.sparse != nil && j.CommandFlags&cmdFlagDF == 0:
		c.readSparse(j)
	default:
		c.readData(j)
	}
}

// readData answers a read with its bytes in one piece.
func (c *conn) readData(j *job) {
	switch ok := c.fill(j, c.srv.payload(j), int64(j.Offset)); {
	case ok && c.structured:
		j.chunkData()
	case ok:
		j.simpleData()
	}
}

// fill reads p at off for j. If that fails it makes the error j's reply, and
// logs it unless it did so lately.
func (c *conn) fill(j *job, p []byte, off int64) bool {
	n, err := c.export.Reader.ReadAt(c.life, p, off)
	if n == len(p) {
		return true
	}
	if err == nil || err == io.EOF {
		// The reader ends before the export does.
		err = io.ErrUnexpectedEOF
	}
	if c.life.Err() == nil && c.srv.said.First(c.export.Name+": "+err.Error()) {
		c.log.Warn("nbd: read failed", "offset", off, "length", len(p), "err", err)
	}
	j.error = errIO
	if c.structured {
		j.chunkError(off+int64(max(0, min(n, len(p)-1))), "unreadable")
	} else {
		j.simple()
	}
	return false
}

// leastHole is the size of a hole that is worth a chunk of its own in the
// reply to a read.
const leastHole = 4 << 10

// readSparse answers a read with a chunk for each run of data or hole.
func (c *conn) readSparse(j *job) {
	var runs []run
	for r := range c.export.runs(int64(j.Offset), int64(j.Length), leastHole) {
		runs = append(runs, r)
	}
	if len(runs) == 1 && !runs[0].hole {
		c.readData(j)
		return
	}
	// The headers lie in head, which must not move once frames point there.
	head := make([]byte, 0, len(runs)*(chunkSize+12))
	var payload []byte
	for i, r := range runs {
		flags := uint16(0)
		if i == len(runs)-1 {
			flags = replyDone
		}
		start := len(head)
		if r.hole {
			head = appendChunk(head, j, flags, replyHole, 12)
			head = binary.BigEndian.AppendUint64(head, uint64(r.off))
			head = binary.BigEndian.AppendUint32(head, uint32(r.n))
			j.frames = append(j.frames, head[start:])
			continue
		}
		if payload == nil {
			payload = c.srv.payload(j)
		}
		p := payload[r.off-int64(j.Offset):][:r.n]
		if !c.fill(j, p, r.off) {
			return
		}
		head = appendChunk(head, j, flags, replyData, 8+len(p))
		head = binary.BigEndian.AppendUint64(head, uint64(r.off))
		j.frames = append(j.frames, head[start:], p)
	}
}

// maxStatus is how many runs one reply tells of; a client asks on from there.
const maxStatus = 4 << 10

// status answers a BLOCK_STATUS by base:allocation.
func (c *conn) status(j *job) {
	limit := maxStatus
	if j.CommandFlags&cmdFlagReqOne != 0 {
		limit = 1
	}
	b := append(j.head[:0], make([]byte, chunkSize)...)
	b = binary.BigEndian.AppendUint32(b, allocationID)
	for r := range c.export.runs(int64(j.Offset), int64(j.Length), 1) {
		state := uint32(0)
		if r.hole {
			state = stateHole | stateZero
		}
		b = binary.BigEndian.AppendUint32(b, uint32(r.n))
		b = binary.BigEndian.AppendUint32(b, state)
		if limit--; limit == 0 {
			break
		}
	}
	appendChunk(b[:0], j, replyDone, replyStatus, len(b)-chunkSize)
	j.head = b
	j.frames = append(j.frames[:0], b)
}

package nbd

import (
	"encoding/binary"
	"io"
	"os"
)

// read makes the reply to a READ.
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
	if f := c.fileOf(j); f != nil {
		j.fileData(f)
		return
	}
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
	c.failed(j, off, len(p), err)
	if c.structured {
		j.chunkError(off+int64(max(0, min(n, len(p)-1))), "unreadable")
	} else {
		j.simple()
	}
	return false
}

// failed notes that n bytes at off cannot be read for j.
func (c *conn) failed(j *job, off int64, n int, err error) {
	if c.life.Err() == nil && c.srv.said.First(c.export.Name+": "+err.Error()) {
		c.log.Warn("nbd: read failed", "offset", off, "length", n, "err", err)
	}
	j.error = errIO
}

// leastFile is the length of a read that is worth the two more writes to the
// socket that its going past this process takes.
const leastFile = 64 << 10

// fileOf is the file from which what j reads can go straight to the socket, which
// saves the server two copies; nil if it must not. Simple replies say that all is
// well before it is sent. And whoever sends waits for the file while others wait for
// him: so all of it must be in the system's memory.
func (c *conn) fileOf(j *job) *os.File {
	if c.export.backed == nil || c.tls != nil || !c.structured || j.CommandFlags&cmdFlagDF != 0 || j.Length < leastFile || !canSendFile(c.net) {
		return nil
	}
	f := c.export.backed.Backing()
	if f == nil || !inMemory(f, int64(j.Offset), int64(j.Length)) {
		return nil
	}
	return f
}

// leastHole is the size of a hole that is worth a chunk of its own in the
// reply to a read.
const leastHole = 4 << 10

// readSparse answers a read with a chunk for each run of data or hole.
func (c *conn) readSparse(j *job) {
	var all []run
	for r := range runs(c.export.sparse.Holes, int64(j.Offset), int64(j.Length), leastHole) {
		all = append(all, r)
	}
	if len(all) == 1 && !all[0].in {
		c.readData(j)
		return
	}
	// The headers lie in head, which must not move once frames point there.
	head := make([]byte, 0, len(all)*(chunkSize+12))
	var payload []byte
	for i, r := range all {
		flags := uint16(0)
		if i == len(all)-1 {
			flags = replyDone
		}
		start := len(head)
		if r.in {
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

package nbd

import (
	"encoding/binary"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// read makes the reply to a READ.
func (c *conn) read(j *job) {
	switch {
	case j.Length == 0 && c.structured:
		j.chunkNone()
	case j.Length == 0:
		j.simple()
	case c.structured && c.export.sparse != nil && !c.export.Zeros && j.CommandFlags&cmdFlagDF == 0:
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
	switch n, err := c.readAt(c.srv.payload(j), int64(j.Offset)); {
	case err != nil:
		c.unreadable(j, j.whole(), n, err)
	case c.structured:
		j.chunkData()
	default:
		j.simpleData()
	}
}

// whole is all that j reads.
func (j *job) whole() run { return run{off: int64(j.Offset), n: int64(j.Length)} }

// readAt reads all of p at off, or what there is before an error.
func (c *conn) readAt(p []byte, off int64) (int, error) {
	n, err := c.export.Reader.ReadAt(c.life, p, off)
	switch {
	case n == len(p):
		return n, nil
	case err == nil, err == io.EOF:
		// The reader ends before the export does.
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// unreadable makes it j's reply that r could not be read behind its first n bytes,
// and logs that unless it did so lately.
func (c *conn) unreadable(j *job, r run, n int, err error) {
	if c.life.Err() == nil && c.srv.said.First(c.export.Name+": "+err.Error()) {
		c.log.Warn("nbd: read failed", "offset", r.off, "length", r.n, "err", err)
	}
	j.error = errIO
	if c.structured {
		j.chunkError(r.off+max(0, min(int64(n), r.n-1)), "unreadable")
	} else {
		j.simple()
	}
}

// leastFile is the length of a read that is worth the two more writes to the
// socket that its going past this process takes.
const leastFile = 64 << 10

// fileOf is the file from which what j reads can go straight to the socket, which
// saves the server two copies; nil if it must not. Simple replies say that all is
// well before it is sent. And whoever sends waits for the file while others wait for
// him: so all of it must be in the system's memory.
func (c *conn) fileOf(j *job) *os.File {
	if c.export.backed == nil || c.raw == nil || c.tls != nil || !c.structured || j.CommandFlags&cmdFlagDF != 0 || j.Length < leastFile || !tellsMemory() {
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
	if !c.fillRuns(j, all) {
		return
	}
	// The headers lie in head, which must not move once frames point there.
	head := make([]byte, 0, len(all)*(chunkSize+12))
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
		p := j.of(r)
		head = appendChunk(head, j, flags, replyData, 8+len(p))
		head = binary.BigEndian.AppendUint64(head, uint64(r.off))
		j.frames = append(j.frames, head[start:], p)
	}
}

// runReads is how many runs of data one read has under way, if what has them is far
// away.
const runReads = 16

// fillRuns reads the runs that are not holes, at the same time. If one of them fails
// it makes that j's reply.
func (c *conn) fillRuns(j *job, all []run) bool {
	data := 0
	for _, r := range all {
		if !r.in {
			data++
		}
	}
	if data == 0 {
		return true
	}
	c.srv.payload(j)
	type result struct {
		n   int
		err error
	}
	came := make([]result, len(all))
	var next atomic.Int64
	var failed atomic.Bool
	work := func() {
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(all) {
				return
			}
			if all[i].in {
				continue
			}
			n, err := c.readAt(j.of(all[i]), all[i].off)
			if err != nil {
				failed.Store(true)
			}
			came[i] = result{n, err}
		}
	}
	var others sync.WaitGroup
	for range min(data, runReads) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	for i, r := range came {
		if r.err != nil {
			c.unreadable(j, all[i], r.n, r.err)
			return false
		}
	}
	return true
}

// of is what of j's payload is r's.
func (j *job) of(r run) []byte { return j.bytes()[r.off-int64(j.Offset):][:r.n] }

package nbd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// A job is a request and its reply.
type job struct {
	protocol.TransmissionRequestHeader
	error  uint32 // of the protocol; 0: none
	cost   int64  // memory that the payload takes
	shared int64  // of it, what is the server's common memory
	buf    *buffer
	frames net.Buffers // the reply, once it is known
	head   []byte      // what frames holds besides buf
	file   *os.File    // sent between frames and a last chunk: what is read of it; nil: nothing
}

func (s *Server) newJob() *job {
	if j, ok := s.jobs.Get().(*job); ok {
		return j
	}
	return new(job)
}

// freeJob takes back a job with its buffer.
func (s *Server) freeJob(j *job) {
	if j.buf != nil {
		s.buffers.put(j.buf)
	}
	clear(j.frames)
	*j = job{frames: j.frames[:0], head: j.head[:0]}
	s.jobs.Put(j)
}

// payload is room for the bytes that j wants or brings.
func (s *Server) payload(j *job) []byte {
	j.buf = s.buffers.get(int(j.Length))
	return j.bytes()
}

// bytes are those that payload has made room for.
func (j *job) bytes() []byte { return j.buf.bytes[headroom:][:j.Length] }

// simple makes the reply that has no payload.
func (j *job) simple() {
	j.head = appendSimple(j.head[:0], j)
	j.frames = append(j.frames[:0], j.head)
}

// simpleData makes the reply that carries the payload in j.buf.
func (j *job) simpleData() {
	b := j.buf.bytes[headroom-simpleSize:][:simpleSize+int(j.Length)]
	appendSimple(b[:0], j)
	j.frames = append(j.frames[:0], b)
}

// chunkData makes the reply of one structured chunk that carries the payload
// in j.buf.
func (j *job) chunkData() {
	const size = chunkSize + 8
	b := j.buf.bytes[headroom-size:][:size+int(j.Length)]
	appendChunk(b[:0], j, replyDone, replyData, 8+int(j.Length))
	binary.BigEndian.PutUint64(b[chunkSize:], j.Offset)
	j.frames = append(j.frames[:0], b)
}

// fileData makes the reply of two structured chunks of which one carries what is
// read of a file, as it is sent, and the other says how that went.
func (j *job) fileData(f *os.File) {
	j.file = f
	j.head = appendChunk(j.head[:0], j, 0, replyData, 8+int(j.Length))
	j.head = binary.BigEndian.AppendUint64(j.head, j.Offset)
	j.frames = append(j.frames[:0], j.head)
}

// chunkNone makes the reply of one structured chunk that carries nothing.
func (j *job) chunkNone() {
	j.head = appendChunk(j.head[:0], j, replyDone, replyNone, 0)
	j.frames = append(j.frames[:0], j.head)
}

// chunkError makes the reply of one structured chunk that says that the export
// is at fault at offset at, or the request if at is negative.
func (j *job) chunkError(at int64, message string) {
	kind, size := replyError, 6+len(message)
	if at >= 0 {
		kind, size = replyErrorAt, size+8
	}
	b := appendChunk(j.head[:0], j, replyDone, kind, size)
	b = binary.BigEndian.AppendUint32(b, j.error)
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	b = append(b, message...)
	if at >= 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	j.head = b
	j.frames = append(j.frames[:0], b)
}

func appendSimple(b []byte, j *job) []byte {
	b = binary.BigEndian.AppendUint32(b, protocol.TRANSMISSION_MAGIC_REPLY)
	b = binary.BigEndian.AppendUint32(b, j.error)
	return binary.BigEndian.AppendUint64(b, j.Handle)
}

// appendChunk appends the header of a structured chunk of n bytes.
func appendChunk(b []byte, j *job, flags, kind uint16, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, magicStructured)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, j.Handle)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// A writer is what sending needs from one batch of replies to the next.
type writer struct {
	batch []*job
	vec   net.Buffers
	rest  net.Buffers // of vec, what has not been sent

	sealed *bufio.Writer // gathers what goes into a record of TLS; nil: all is in the clear
}

const (
	batchMax  = 1 << 20 // bytes after which a write takes no more replies
	sendGrace = 5 * time.Second
	sendRate  = 1 << 20 // bytes a second
)

// allowed is when n bytes must be through, in ns since 1970, if memory or slots
// are short.
func allowed(n int) int64 {
	return time.Now().Add(sendGrace + time.Duration(n)*time.Second/sendRate).UnixNano()
}

// enqueue puts j's reply in line. c.mu is held.
func (c *conn) enqueue(j *job) {
	c.queue = append(c.queue, j)
	c.queued += j.size()
}

// size is how many bytes the reply has.
func (j *job) size() (n int) {
	for _, f := range j.frames {
		n += len(f)
	}
	if j.file != nil {
		n += int(j.Length) + chunkSize
	}
	return n
}

// flush sends what is in line, unless another goroutine is at it: that one
// will find it.
func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing {
		return
	}
	c.writing = true
	for len(c.queue) > 0 {
		n := c.take()
		if c.dead {
			c.settle()
			continue
		}
		c.mu.Unlock()
		err := c.send(n)
		if err != nil {
			c.kill(err)
		}
		c.mu.Lock()
		c.settle()
	}
	c.writing = false
}

// take moves replies from the line to the next batch and returns the bytes
// that they have. c.mu is held.
func (c *conn) take() int {
	n, count := 0, 0
	for count < len(c.queue) && n < batchMax {
		n += c.queue[count].size()
		count++
	}
	c.out.batch = append(c.out.batch, c.queue[:count]...)
	c.queue = slices.Delete(c.queue, 0, count)
	c.queued -= n
	return n
}

// send sends the n bytes of a batch.
func (c *conn) send(n int) error {
	c.sendBy.Store(allowed(n))
	defer c.sendBy.Store(0)
	if err := c.sendAll(); err != nil {
		return fmt.Errorf("nbd: reply: %w", err)
	}
	return nil
}

func (c *conn) sendAll() error {
	if c.out.sealed != nil {
		return c.sendSealed()
	}
	for _, j := range c.out.batch {
		c.out.vec = append(c.out.vec, j.frames...)
		if j.file != nil {
			if err := c.sendFile(j); err != nil {
				return err
			}
		}
	}
	return c.sendVec()
}

// sendSealed is sendAll over TLS.
func (c *conn) sendSealed() error {
	for _, j := range c.out.batch {
		for _, b := range j.frames {
			if _, err := c.out.sealed.Write(b); err != nil {
				return err
			}
		}
	}
	return c.out.sealed.Flush()
}

// sendVec sends what has been gathered, and has nothing gathered after that.
func (c *conn) sendVec() error {
	c.out.rest = c.out.vec
	_, err := c.out.rest.WriteTo(c.net)
	clear(c.out.vec)
	c.out.vec, c.out.rest = c.out.vec[:0], nil
	return err
}

// sendFile sends what has been gathered and what j reads of its file, and gathers the
// chunk behind that. What cannot be read is sent as zeros, of which that chunk says
// that they are none.
func (c *conn) sendFile(j *job) error {
	if err := c.sendVec(); err != nil {
		return err
	}
	n, err, lost := sendFile(c.raw, j.file, int64(j.Offset), int(j.Length))
	if lost != nil {
		return lost
	}
	if err != nil {
		c.unreadable(j, j.whole(), n, err)
		if _, err := io.CopyN(c.net, zeros{}, int64(j.Length)-int64(n)); err != nil {
			return err
		}
	} else {
		j.chunkNone()
	}
	c.out.vec = append(c.out.vec, j.frames...)
	return nil
}

// zeros is a reader of nothing else.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// settle gives back what the batch took. c.mu is held.
func (c *conn) settle() {
	shared := int64(0)
	for _, j := range c.out.batch {
		c.requests--
		c.bytes -= j.cost
		shared += j.shared
		c.srv.freeJob(j)
	}
	clear(c.out.batch)
	c.out.batch = c.out.batch[:0]
	if shared > 0 {
		c.srv.memory.give(shared)
	}
	if c.requests == 0 && !c.rested.IsZero() {
		c.rested = time.Now()
	}
	c.room.Signal()
}

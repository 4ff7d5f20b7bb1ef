package nbd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
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
	for _, f := range j.frames {
		c.queued += len(f)
	}
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
		for _, f := range c.queue[count].frames {
			c.out.vec = append(c.out.vec, f)
			n += len(f)
		}
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
	if c.out.sealed == nil {
		c.out.rest = c.out.vec
		_, err := c.out.rest.WriteTo(c.net)
		return err
	}
	for _, b := range c.out.vec {
		if _, err := c.out.sealed.Write(b); err != nil {
			return err
		}
	}
	return c.out.sealed.Flush()
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
	clear(c.out.vec)
	c.out.batch, c.out.vec, c.out.rest = c.out.batch[:0], c.out.vec[:0], nil
	if shared > 0 {
		c.srv.memory.give(shared)
	}
	if c.requests == 0 && !c.rested.IsZero() {
		c.rested = time.Now()
	}
	c.room.Signal()
}

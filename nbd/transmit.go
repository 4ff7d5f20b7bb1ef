package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// ownMemory is what the payloads of a connection may take whatever the others
// do.
const ownMemory = 128 << 10

// transmit serves the second phase of a connection: requests and replies.
func (c *conn) transmit() error {
	c.turn.timer = time.AfterFunc(time.Hour, c.watch)
	defer c.turn.timer.Stop()
	c.work.Go(c.lead)
	c.work.Wait()
	c.flush()
	return c.ended()
}

// lead takes requests until it hands the lead over or the client is gone.
func (c *conn) lead() {
	for {
		j := c.srv.newJob()
		err := c.next(j)
		if err == nil {
			err = c.admit(j)
		}
		if err == nil && j.Type == protocol.TRANSMISSION_TYPE_REQUEST_WRITE {
			err = c.payload(j)
		}
		if err != nil {
			c.srv.freeJob(j)
			c.leave(err)
			return
		}
		mine, handsOver := c.handsOver(j)
		if handsOver {
			c.work.Go(c.lead)
			start := time.Now()
			c.handle(j)
			c.reply(j, time.Since(start))
			c.flush()
			return
		}
		c.handle(j)
		lost, full := c.replyOwn(j, mine)
		if full {
			c.flush()
		}
		if lost {
			return
		}
	}
}

// errDone says that the client has sent its last request.
var errDone = errors.New("no more requests")

// leave ends the connection for the reason err, at once unless there are
// requests to be finished.
func (c *conn) leave(err error) {
	if errors.Is(err, errDone) || c.stopping() && errors.Is(err, errTimeout) {
		c.flush()
		return
	}
	c.kill(err)
}

// next reads one request. Before it waits for the client, all replies that
// are ready are sent.
func (c *conn) next(j *job) error {
	fresh := c.in.Buffered() < requestSize
	if fresh {
		c.flush()
	}
	b, err := c.in.Peek(requestSize)
	if fresh && err == nil {
		c.bringForward()
	}
	if len(b) > 0 && errors.Is(err, errTimeout) {
		whole := make([]byte, requestSize)
		n := copy(whole, b)
		err = c.inGrace(func(r io.Reader) error {
			_, err := io.ReadFull(r, whole[n:])
			return err
		})
		b = whole
	}
	if err != nil {
		if len(b) > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("nbd: request: %w", err)
	}
	j.TransmissionRequestHeader = protocol.TransmissionRequestHeader{
		RequestMagic: binary.BigEndian.Uint32(b),
		CommandFlags: binary.BigEndian.Uint16(b[4:]),
		Type:         binary.BigEndian.Uint16(b[6:]),
		Handle:       binary.BigEndian.Uint64(b[8:]),
		Offset:       binary.BigEndian.Uint64(b[16:]),
		Length:       binary.BigEndian.Uint32(b[24:]),
	}
	c.in.Discard(min(requestSize, c.in.Buffered())) // less if the rest came in grace
	if j.RequestMagic != protocol.TRANSMISSION_MAGIC_REQUEST {
		return fmt.Errorf("nbd: request magic %#x: want %#x", j.RequestMagic, protocol.TRANSMISSION_MAGIC_REQUEST)
	}
	switch {
	case j.Type == protocol.TRANSMISSION_TYPE_REQUEST_DISC:
		return errDone
	case j.Type == protocol.TRANSMISSION_TYPE_REQUEST_WRITE && j.Length > maxPayload:
		return fmt.Errorf("nbd: write of %d bytes: more than %d", j.Length, maxPayload)
	}
	return nil
}

// bringForward puts a BLOCK_STATUS before the reads that have arrived with it. Programs
// that copy disks wait for its answer before they ask for more, and would be idle, with
// all of their memory given back, once those reads were answered.
func (c *conn) bringForward() {
	all, _ := c.in.Peek(c.in.Buffered()) // the buffer itself
	const n = requestSize
	front := 0
	for i := 0; i+n <= len(all); i += n {
		b := all[i:][:n]
		if binary.BigEndian.Uint32(b) != protocol.TRANSMISSION_MAGIC_REQUEST {
			return
		}
		switch binary.BigEndian.Uint16(b[6:]) {
		case protocol.TRANSMISSION_TYPE_REQUEST_READ:
		case cmdBlockStatus:
			status := [n]byte(b)
			copy(all[front+n:i+n], all[front:i])
			copy(all[front:], status[:])
			front += n
		default:
			return // it may have a payload, or be for after what is before it
		}
	}
}

// inGrace has read go on that stopped within a request because the connection
// drains: what was begun is taken to its end, and not a byte more, for whoever goes
// on with the connection would take the rest of it for the next request. A client
// that does not send it is sent away at the end of the grace time. There must be
// nothing in c.in that read is to read.
func (c *conn) inGrace(read func(io.Reader) error) error {
	if err := c.net.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	from := io.Reader(c.net)
	if c.tls != nil {
		from = c.tls
	}
	if err := read(from); err != nil {
		return err
	}
	return c.net.SetReadDeadline(longAgo)
}

// admit waits until there is room for j's payload, to be sent or received, or for
// what a BLOCK_STATUS may say.
func (c *conn) admit(j *job) error {
	j.error = c.check(j)
	if j.error == 0 && (j.Type == protocol.TRANSMISSION_TYPE_REQUEST_READ || j.Type == protocol.TRANSMISSION_TYPE_REQUEST_WRITE) {
		j.cost = cost(int(j.Length))
	}
	if j.error == 0 && j.Type == cmdBlockStatus {
		j.cost = cost(runSize * len(c.contexts) * int(min(uint32(j.runs()), j.Length)))
	}
	c.mu.Lock()
	for !c.dead && (c.requests >= c.srv.opt.Requests || c.bytes+j.cost > c.srv.opt.ConnMemory) {
		if len(c.queue) > 0 && !c.writing {
			c.mu.Unlock()
			c.flush()
			c.mu.Lock()
			continue
		}
		c.room.Wait()
	}
	if c.dead {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.requests++
	c.bytes += j.cost
	if c.bytes > ownMemory {
		j.shared = j.cost
	}
	c.mu.Unlock()
	if j.shared == 0 || c.srv.memory.try(j.shared) {
		return nil
	}
	c.flush()
	if err := c.srv.memory.take(c.life, j.shared); err != nil {
		j.shared = 0
		return err
	}
	return nil
}

package nbd

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// payload reads what a WRITE carries: into the memory that admit has found for
// it, or past one that is refused.
func (c *conn) payload(j *job) error {
	n := int(j.Length)
	if j.error == 0 && n > 0 {
		c.srv.payload(j)
	}
	if c.in.Buffered() < n {
		c.flush()
		c.payloadBy.Store(allowed(n))
		defer c.payloadBy.Store(0)
	}
	done, err := receive(c.in, j, 0)
	if errors.Is(err, errTimeout) {
		err = c.inGrace(func(r io.Reader) error {
			_, err := receive(r, j, done)
			return err
		})
	}
	if err == nil {
		return nil
	}
	c.srv.memory.give(j.shared)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("nbd: payload of a write: %w", err)
}

// receive reads j's payload from its byte done on, or past it if there is no room
// for it. It returns how many bytes have been read in all.
func receive(r io.Reader, j *job, done int) (int, error) {
	if j.buf == nil {
		n, err := io.CopyN(io.Discard, r, int64(j.Length)-int64(done))
		return done + int(n), err
	}
	n, err := io.ReadFull(r, j.bytes()[done:])
	return done + n, err
}

// waits reports whether j is for the disk to answer, which takes its time.
func (c *conn) waits(j *job) bool {
	if c.export.writer == nil || j.error != 0 {
		return false
	}
	switch j.Type {
	case cmdFlush, cmdTrim, cmdWriteZeroes:
		return true
	case protocol.TRANSMISSION_TYPE_REQUEST_WRITE:
		return j.CommandFlags&cmdFlagFUA != 0
	}
	return false
}

// change does what j changes, and makes the reply.
func (c *conn) change(j *job) {
	err := c.write(j)
	if err == nil && (j.Type == cmdFlush || j.CommandFlags&cmdFlagFUA != 0) {
		err = c.export.writer.Flush(c.life)
	}
	if err == nil {
		j.simple()
		return
	}
	if c.life.Err() == nil && c.srv.said.First(c.export.Name+": "+err.Error()) {
		c.log.Warn("nbd: write failed", "command", j.Type, "offset", int64(j.Offset), "length", j.Length, "err", err)
	}
	message := "not written"
	j.error = errIO
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		message = "no space left"
		j.error = errNoSpace
	}
	if c.structured {
		j.chunkError(-1, message)
	} else {
		j.simple()
	}
}

func (c *conn) write(j *job) error {
	w, off, n := c.export.writer, int64(j.Offset), int64(j.Length)
	switch {
	case n == 0 || j.Type == cmdFlush:
		return nil
	case j.Type == cmdTrim:
		return w.Discard(c.life, off, n)
	case j.Type == cmdWriteZeroes:
		return w.Zero(c.life, off, n, j.CommandFlags&cmdFlagNoHole != 0)
	}
	done, err := w.WriteAt(c.life, j.bytes(), off)
	if err == nil && done < int(n) {
		err = io.ErrShortWrite
	}
	return err
}

package nbd

import "github.com/pojntfx/go-nbd/pkg/protocol"

const (
	errPerm    = protocol.TRANSMISSION_ERROR_EPERM
	errInvalid = protocol.TRANSMISSION_ERROR_EINVAL
)

// check returns the protocol's error for a request that is refused unread.
func (c *conn) check(j *job) uint32 {
	flags := uint16(0) // that the command may have
	past := errInvalid // for what is outside the export
	switch j.Type {
	case protocol.TRANSMISSION_TYPE_REQUEST_WRITE, cmdTrim, cmdWriteZeroes:
		if c.export.writer == nil {
			return errPerm
		}
		if j.Type == cmdWriteZeroes {
			flags = cmdFlagNoHole
		}
		if j.Type != cmdTrim {
			past = errNoSpace
		}
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
		if len(c.contexts) == 0 || j.Length == 0 {
			return errInvalid
		}
		flags = cmdFlagReqOne
	default:
		return errInvalid
	}
	if c.export.writer != nil {
		flags |= cmdFlagFUA // any command may have it
	}
	size := uint64(c.export.Size)
	switch {
	case j.CommandFlags&^flags != 0:
		return errInvalid
	case j.Offset > size || uint64(j.Length) > size-j.Offset:
		return past
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
	case c.export.writer != nil:
		c.change(j)
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
	case errNoSpace:
		return "the export ends before"
	}
	return "not supported, or outside the export"
}

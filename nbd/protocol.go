package nbd

import "github.com/pojntfx/go-nbd/pkg/protocol"

// What the protocol has and go-nbd's package protocol has not. Names are the
// protocol's own, without NBD_.
const (
	flagNoZeroes = uint16(1 << 1) // handshake flags; go-nbd has bit 0

	clientFixedNewstyle = uint32(1 << 0)
	clientNoZeroes      = uint32(1 << 1)

	optExportName      = uint32(1)
	optStartTLS        = uint32(5)
	optStructuredReply = uint32(8)
	optListMetaContext = uint32(9)
	optSetMetaContext  = uint32(10)

	repMetaContext = uint32(4)
	repErrPolicy   = uint32(1<<31 | 2)
	repErrInvalid  = uint32(1<<31 | 3)
	repErrTLS      = uint32(1<<31 | 5)
	repErrTooBig   = uint32(1<<31 | 9)

	flagReadOnly        = uint16(1 << 1) // transmission flags; go-nbd has bits 0 and 8
	flagSendFlush       = uint16(1 << 2)
	flagSendFUA         = uint16(1 << 3)
	flagSendTrim        = uint16(1 << 5)
	flagSendWriteZeroes = uint16(1 << 6)
	flagSendDF          = uint16(1 << 7)
	flagSendCache       = uint16(1 << 10)

	cmdFlush       = uint16(3)
	cmdTrim        = uint16(4)
	cmdCache       = uint16(5)
	cmdWriteZeroes = uint16(6)
	cmdBlockStatus = uint16(7)

	cmdFlagFUA    = uint16(1 << 0)
	cmdFlagNoHole = uint16(1 << 1)
	cmdFlagDF     = uint16(1 << 2)
	cmdFlagReqOne = uint16(1 << 3)

	magicStructured = uint32(0x668e33ef)
	replyDone       = uint16(1 << 0) // structured reply flags
	replyNone       = uint16(0)      // structured reply types
	replyData       = uint16(1)
	replyHole       = uint16(2)
	replyStatus     = uint16(5)
	replyError      = uint16(1<<15 | 1)
	replyErrorAt    = uint16(1<<15 | 2)

	errIO       = uint32(5)
	errNoSpace  = uint32(28)
	errOverflow = uint32(75)

	stateHole  = uint32(1 << 0) // base:allocation
	stateZero  = uint32(1 << 1)
	stateLocal = uint32(1 << 0) // caravel:cached
)

const (
	maxName    = 4096     // bytes of any string of the protocol
	maxOption  = 64 << 10 // bytes of one option's data
	maxOptions = 1024     // options of one negotiation
	maxPayload = 32 << 20 // bytes of one read or write: what every client may expect to work

	requestSize = 28
	simpleSize  = 16 // header of a simple reply
	chunkSize   = 20 // header of a structured reply's chunk
)

// serverFlags are the handshake flags that every connection is greeted with.
const serverFlags = protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE | flagNoZeroes

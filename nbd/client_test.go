package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"net"
	"path/filepath"
	"testing"

	"caravel/nbd"
)

// The protocol's numbers, written down a second time.
const (
	optExportName = 1
	optAbort      = 2
	optList       = 3
	optStartTLS   = 5
	optInfo       = 6
	optGo         = 7
	optStructured = 8
	optListMeta   = 9
	optSetMeta    = 10

	repAck     = 1
	repServer  = 2
	repInfo    = 3
	repMeta    = 4
	errUnsup   = 1<<31 | 1
	errPolicy  = 1<<31 | 2
	errInvalid = 1<<31 | 3
	errTLSReqd = 1<<31 | 5
	errUnknown = 1<<31 | 6
	errTooBig  = 1<<31 | 9

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdCache       = 5
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	flagDF     = 1 << 2
	flagReqOne = 1 << 3

	eperm     = 1
	eio       = 5
	einval    = 22
	eoverflow = 75
)

// A client speaks NBD as the tests want it, right or wrong.
type client struct {
	testing.TB
	net.Conn
	structured bool
}

// pattern is an export's content at off.
func pattern(off int64) byte { return byte(off ^ off>>8 ^ off>>16) }

func patterned(off int64, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = pattern(off + int64(i))
	}
	return p
}

// patternReader is an export of any size whose content is pattern.
type patternReader struct{}

func (patternReader) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = pattern(off + int64(i))
	}
	return len(p), nil
}

var errBad = errors.New("chunk is not there")

// readerFunc is a reader that is a function.
type readerFunc func(ctx context.Context, p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f(ctx, p, off)
}

// sparseReader has pattern, but zeros in its holes: offset and length each.
type sparseReader [][2]int64

func (s sparseReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	patternReader{}.ReadAt(ctx, p, off)
	for _, h := range s {
		from, to := max(h[0], off), min(h[0]+h[1], off+int64(len(p)))
		if from < to {
			clear(p[from-off : to-off])
		}
	}
	return len(p), nil
}

func (s sparseReader) Holes(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for _, h := range s {
			if h[0] < off+n && h[0]+h[1] > off && !yield(h[0], h[1]) {
				return
			}
		}
	}
}

// serve runs a server of exports on a Unix socket, until the test ends.
func serve(t testing.TB, opt nbd.Options, exports ...nbd.Export) (socket string) {
	t.Helper()
	s, err := nbd.NewServer(exports, opt)
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket
}

func dial(t testing.TB, socket string) *client {
	t.Helper()
	nc, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &client{TB: t, Conn: nc}
}

// greeted is a client that has taken the server's greeting.
func greeted(t testing.TB, socket string, flags uint32) *client {
	t.Helper()
	c := dial(t, socket)
	if magic := c.uint64(); magic != 0x4e42444d41474943 {
		t.Fatalf("greeting %#x", magic)
	}
	if magic := c.uint64(); magic != 0x49484156454f5054 {
		t.Fatalf("second greeting %#x", magic)
	}
	if f := c.uint16(); f != 3 {
		t.Fatalf("handshake flags %#x: want fixed newstyle and no zeroes", f)
	}
	c.send(flags)
	return c
}

// open is a client that has chosen the export, with structured replies or not.
func open(t testing.TB, socket, name string, structured bool) *client {
	t.Helper()
	c := greeted(t, socket, 3)
	if structured {
		c.structured = true
		c.option(optStructured, nil)
		c.wantReply(optStructured, repAck)
	}
	c.choose(name)
	return c
}

// choose does GO and takes its replies.
func (c *client) choose(name string) {
	c.Helper()
	c.option(optGo, goData(name))
	for {
		kind, data := c.reply(optGo)
		if kind == repAck {
			return
		}
		if kind != repInfo {
			c.Fatalf("GO %q: reply %#x %q", name, kind, data)
		}
	}
}

func goData(name string, infos ...uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(infos)))
	for _, i := range infos {
		b = binary.BigEndian.AppendUint16(b, i)
	}
	return b
}

func metaData(name string, queries ...string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(queries)))
	for _, q := range queries {
		b = binary.BigEndian.AppendUint32(b, uint32(len(q)))
		b = append(b, q...)
	}
	return b
}

func optionBytes(id uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, 0x49484156454f5054)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func (c *client) option(id uint32, data []byte) { c.Helper(); c.send(optionBytes(id, data)) }

// reply takes one reply to option id.
func (c *client) reply(id uint32) (kind uint32, data []byte) {
	c.Helper()
	if magic := c.uint64(); magic != 0x3e889045565a9 {
		c.Fatalf("option reply magic %#x", magic)
	}
	if got := c.uint32(); got != id {
		c.Fatalf("reply to option %d: want %d", got, id)
	}
	kind = c.uint32()
	return kind, c.bytes(int(c.uint32()))
}

func (c *client) wantReply(id, want uint32) []byte {
	c.Helper()
	kind, data := c.reply(id)
	if kind != want {
		c.Fatalf("option %d: reply %#x %q: want %#x", id, kind, data, want)
	}
	return data
}

func requestBytes(flags, kind uint16, cookie uint64, off uint64, n uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, 0x25609513)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, off)
	return binary.BigEndian.AppendUint32(b, n)
}

func (c *client) request(flags, kind uint16, cookie uint64, off uint64, n uint32) {
	c.Helper()
	c.send(requestBytes(flags, kind, cookie, off, n))
}

// simple takes a simple reply, with n bytes if there is no error.
func (c *client) simple(n int) (cookie uint64, code uint32, data []byte) {
	c.Helper()
	if magic := c.uint32(); magic != 0x67446698 {
		c.Fatalf("simple reply magic %#x", magic)
	}
	code, cookie = c.uint32(), c.uint64()
	if code == 0 {
		data = c.bytes(n)
	}
	return cookie, code, data
}

// A chunk is one of a structured reply.
type chunk struct {
	flags, kind uint16
	cookie      uint64
	data        []byte
}

func (c *client) chunk() chunk {
	c.Helper()
	if magic := c.uint32(); magic != 0x668e33ef {
		c.Fatalf("structured reply magic %#x", magic)
	}
	k := chunk{flags: c.uint16(), kind: c.uint16(), cookie: c.uint64()}
	k.data = c.bytes(int(c.uint32()))
	return k
}

// read reads n bytes at off, in either way of reply, and returns the error.
func (c *client) read(off int64, n int) ([]byte, uint32) {
	c.Helper()
	const cookie = 0xfeed
	c.request(0, cmdRead, cookie, uint64(off), uint32(n))
	if !c.structured {
		got, code, data := c.simple(n)
		if got != cookie {
			c.Fatalf("cookie %#x", got)
		}
		return data, code
	}
	k := c.chunk()
	switch {
	case k.cookie != cookie || k.flags != 1:
		c.Fatalf("read: chunk %+v", k)
	case k.kind == 1:
		return k.data[8:], 0
	case k.kind >= 1<<15:
		return nil, binary.BigEndian.Uint32(k.data)
	}
	c.Fatalf("read: chunk type %d", k.kind)
	return nil, 0
}

func (c *client) wantRead(off int64, n int) {
	c.Helper()
	data, code := c.read(off, n)
	if code != 0 || !bytes.Equal(data, patterned(off, n)) {
		c.Fatalf("read of %d at %d: error %d, %d bytes, or other bytes than are there", n, off, code, len(data))
	}
}

// wantEnd waits until the server has closed the connection and has sent
// nothing more.
func (c *client) wantEnd() {
	c.Helper()
	if rest, _ := io.ReadAll(c.Conn); len(rest) > 0 {
		c.Fatalf("%d bytes before the end: % x", len(rest), rest[:min(len(rest), 64)])
	}
}

func (c *client) send(v any) {
	c.Helper()
	if err := binary.Write(c.Conn, binary.BigEndian, v); err != nil {
		c.Fatal(err)
	}
}

func (c *client) bytes(n int) []byte {
	c.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.Conn, b); err != nil {
		c.Fatal(err)
	}
	return b
}

func (c *client) uint16() uint16 { c.Helper(); return binary.BigEndian.Uint16(c.bytes(2)) }
func (c *client) uint32() uint32 { c.Helper(); return binary.BigEndian.Uint32(c.bytes(4)) }
func (c *client) uint64() uint64 { c.Helper(); return binary.BigEndian.Uint64(c.bytes(8)) }

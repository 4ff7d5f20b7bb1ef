package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"caravel/nbd"
)

// tape is a connection to a client that has said all it will ever say.
type tape struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (t *tape) Read(p []byte) (int, error)      { return t.in.Read(p) }
func (t *tape) Write(p []byte) (int, error)     { return t.out.Write(p) }
func (t *tape) Close() error                    { return nil }
func (t *tape) SetDeadline(time.Time) error     { return nil }
func (t *tape) SetReadDeadline(time.Time) error { return nil }
func (t *tape) RemoteAddr() net.Addr            { return &net.UnixAddr{} }

// play serves one client that says data, and returns what it was told.
func play(t *testing.T, r nbd.Reader, size int64, opt nbd.Options, data []byte) []byte {
	s, err := nbd.NewServer([]nbd.Export{{Name: "x", Size: size, Reader: r}}, opt)
	if err != nil {
		t.Fatal(err)
	}
	c := &tape{in: bytes.NewReader(data)}
	s.ServeConn(context.Background(), c) // any error will do, but it must end
	return c.out.Bytes()
}

// Whatever a client says while it negotiates, it gets well-formed replies to
// its own options, and an end. Where TLS is required it learns of no export.
func FuzzNegotiate(f *testing.F) {
	say := func(flags byte, options ...[]byte) {
		f.Add(append([]byte{0, 0, 0, flags}, bytes.Join(options, nil)...))
	}
	say(3, optionBytes(optList, nil), optionBytes(optAbort, nil))
	say(1, optionBytes(optExportName, []byte("x")), requestBytes(0, cmdRead, 1, 0, 10))
	say(3, optionBytes(optStructured, nil), optionBytes(optSetMeta, metaData("x", "base:allocation")), optionBytes(optGo, goData("", 1, 2, 3)))
	say(3, optionBytes(optInfo, []byte{255, 255, 255, 255, 0, 0}), optionBytes(optListMeta, metaData("x", "base:", "a")))
	say(7)
	say(3, optionBytes(optStartTLS, nil))
	say(3, optionBytes(optStartTLS, nil), optionBytes(optList, nil))
	say(3, optionBytes(optStructured, nil), optionBytes(optSetMeta, metaData("x", "caravel:cached", "base:allocation")), optionBytes(optGo, goData("x")), requestBytes(0, cmdBlockStatus, 1, 0, 1<<20))
	reader := partialReader{sparseReader{{8192, 8192}}, [][2]int64{{0, 4096}, {65536, 0}}}
	config := newAuthority(f).server(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, opt := range []nbd.Options{{}, {TLS: config, Unlisted: true}, {TLS: config, TLSRequired: true}} {
			out := play(t, reader, 1<<20, opt, data)
			if len(out) < 18 {
				t.Fatalf("greeting of %d bytes", len(out))
			}
			for out = out[18:]; len(out) >= 20 && binary.BigEndian.Uint64(out) == 0x3e889045565a9; {
				kind, n := binary.BigEndian.Uint32(out[12:]), binary.BigEndian.Uint32(out[16:])
				if int64(n) > int64(len(out)-20) {
					t.Fatalf("option reply of %d bytes, %d follow", n, len(out)-20)
				}
				if kind != repAck && kind < 1<<31 && opt.TLSRequired {
					t.Fatalf("reply %d without TLS", kind)
				}
				if kind == repServer && opt.Unlisted {
					t.Fatal("an export is listed")
				}
				out = out[20+n:]
			}
		}
	})
}

// Whatever requests a client sends, to an export that can be written to or not,
// each gets its one reply, in step, as long as it keeps to the framing.
func FuzzRequests(f *testing.F) {
	const size = 1 << 20
	f.Add(requestBytes(0, cmdRead, 1, 0, 4096))
	f.Add(append(append(requestBytes(0, cmdWrite, 1, 0, 4), "abcd"...), requestBytes(flagDF, cmdRead, 2, size-1, 2)...))
	f.Add(append(requestBytes(0, cmdTrim, 3, 0, 1<<31), requestBytes(0, 99, 4, 1<<63, 1<<31)...))
	f.Add(append(requestBytes(0, cmdFlush, 3, 0, 0), requestBytes(0, cmdRead, 4, 0, 1<<31)...))
	f.Add(append(requestBytes(0, cmdBlockStatus, 3, 0, 9), requestBytes(0, cmdRead, 4, 5, 100000)...))
	f.Add(append(append(requestBytes(flagFUA, cmdWrite, 1, size-4, 4), "abcd"...), requestBytes(flagNoHole, cmdWriteZeroes, 2, size-1, 2)...))
	f.Add(append(requestBytes(flagFUA, cmdTrim, 1, 0, size), requestBytes(flagFUA|flagNoHole, cmdWriteZeroes, 2, 0, size)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		exchange(t, sparseReader{{8192, 8192}}, size, false, data)
		exchange(t, sink{}, size, true, data)
	})
}

// sink takes what is written to it, and has zeros.
type sink struct{ sparseReader }

func (sink) WriteAt(_ context.Context, p []byte, _ int64) (int, error) { return len(p), nil }
func (sink) Zero(context.Context, int64, int64, bool) error            { return nil }
func (sink) Discard(context.Context, int64, int64) error               { return nil }
func (sink) Flush(context.Context) error                               { return nil }

// exchange has a client send data to a server of r and checks all replies.
func exchange(t *testing.T, r nbd.Reader, size int64, writable bool, data []byte) {
	hello := append([]byte{0, 0, 0, 3}, optionBytes(optExportName, nil)...)
	play(t, r, size, nbd.Options{}, append(hello, data...))

	want, whole := expected(data, func(flags, kind uint16, off uint64, n uint32) reply {
		return due(flags, kind, off, n, uint64(size), writable)
	})
	data = append(data[:whole:whole], requestBytes(0, cmdDisc, 0, 0, 0)...)
	out := play(t, r, size, nbd.Options{}, append(hello, data...))[18+10:]
	for len(out) > 0 {
		if len(out) < 16 || binary.BigEndian.Uint32(out) != 0x67446698 {
			t.Fatalf("no reply header at % x", out[:min(len(out), 16)])
		}
		code, cookie := binary.BigEndian.Uint32(out[4:]), binary.BigEndian.Uint64(out[8:])
		r, ok := want[cookie]
		if !ok || r.code != code || len(out) < 16+r.n {
			t.Fatalf("reply with cookie %#x, error %d and %d bytes at most: want %+v (known: %t)", cookie, code, len(out)-16, r, ok)
		}
		delete(want, cookie)
		out = out[16+r.n:]
	}
	if len(want) > 0 {
		t.Fatalf("no reply: %v", want)
	}
}

// A reply is what a request is answered with: n bytes if code is 0.
type reply struct {
	code uint32
	n    int
}

// expected reads requests as the protocol says, until one is not whole, ends
// the connection, or uses a cookie again. It returns what is due to each
// cookie, and how many bytes the requests have.
func expected[T any](data []byte, due func(flags, kind uint16, off uint64, n uint32) T) (want map[uint64]T, whole int) {
	want = make(map[uint64]T)
	for rest := data; len(rest) >= 28 && binary.BigEndian.Uint32(rest) == 0x25609513; whole = len(data) - len(rest) {
		flags, kind := binary.BigEndian.Uint16(rest[4:]), binary.BigEndian.Uint16(rest[6:])
		off, n := binary.BigEndian.Uint64(rest[16:]), binary.BigEndian.Uint32(rest[24:])
		cookie := binary.BigEndian.Uint64(rest[8:])
		rest = rest[28:]
		if kind == cmdDisc {
			return want, whole
		}
		if kind == cmdWrite {
			if int64(n) > int64(len(rest)) {
				return want, whole
			}
			rest = rest[n:]
		}
		if _, again := want[cookie]; again {
			return want, whole
		}
		want[cookie] = due(flags, kind, off, n)
	}
	return want, whole
}

// due is the reply to one request.
func due(flags, kind uint16, off uint64, n uint32, size uint64, writable bool) reply {
	inside := off <= size && uint64(n) <= size-off
	if writable {
		flags &^= flagFUA
	}
	switch kind {
	case cmdFlush:
		return reply{}
	case cmdRead:
		if flags == 0 && inside {
			return reply{n: int(n)}
		}
	case cmdWrite, cmdTrim, cmdWriteZeroes:
		if kind == cmdWriteZeroes {
			flags &^= flagNoHole
		}
		switch {
		case !writable:
			return reply{code: eperm}
		case flags == 0 && inside:
			return reply{}
		case flags == 0 && kind != cmdTrim:
			return reply{code: enospc}
		}
	}
	return reply{code: einval}
}

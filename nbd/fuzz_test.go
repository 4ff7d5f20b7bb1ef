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
func play(t *testing.T, size int64, data []byte) []byte {
	s, err := nbd.NewServer([]nbd.Export{{Name: "x", Size: size, Reader: sparseReader{{8192, 8192}}}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &tape{in: bytes.NewReader(data)}
	s.ServeConn(context.Background(), c) // any error will do, but it must end
	return c.out.Bytes()
}

// Whatever a client says while it negotiates, it gets well-formed replies to
// its own options, and an end.
func FuzzNegotiate(f *testing.F) {
	say := func(flags byte, options ...[]byte) {
		f.Add(append([]byte{0, 0, 0, flags}, bytes.Join(options, nil)...))
	}
	say(3, optionBytes(optList, nil), optionBytes(optAbort, nil))
	say(1, optionBytes(optExportName, []byte("x")), requestBytes(0, cmdRead, 1, 0, 10))
	say(3, optionBytes(optStructured, nil), optionBytes(optSetMeta, metaData("x", "base:allocation")), optionBytes(optGo, goData("", 1, 2, 3)))
	say(3, optionBytes(optInfo, []byte{255, 255, 255, 255, 0, 0}), optionBytes(optListMeta, metaData("x", "base:", "a")))
	say(7)
	f.Fuzz(func(t *testing.T, data []byte) {
		out := play(t, 1<<20, data)
		if len(out) < 18 {
			t.Fatalf("greeting of %d bytes", len(out))
		}
		for out = out[18:]; len(out) >= 20 && binary.BigEndian.Uint64(out) == 0x3e889045565a9; {
			n := binary.BigEndian.Uint32(out[16:])
			if int64(n) > int64(len(out)-20) {
				t.Fatalf("option reply of %d bytes, %d follow", n, len(out)-20)
			}
			out = out[20+n:]
		}
	})
}

// Whatever requests a client sends, each gets its one reply, in step, as long
// as it keeps to the framing.
func FuzzRequests(f *testing.F) {
	const size = 1 << 20
	f.Add(requestBytes(0, cmdRead, 1, 0, 4096))
	f.Add(append(append(requestBytes(0, cmdWrite, 1, 0, 4), "abcd"...), requestBytes(flagDF, cmdRead, 2, size-1, 2)...))
	f.Add(append(requestBytes(0, cmdTrim, 3, 0, 1<<31), requestBytes(0, 99, 4, 1<<63, 1<<31)...))
	f.Add(append(requestBytes(0, cmdFlush, 3, 0, 0), requestBytes(0, cmdRead, 4, 0, 1<<31)...))
	f.Add(append(requestBytes(0, cmdBlockStatus, 3, 0, 9), requestBytes(0, cmdRead, 4, 5, 100000)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		hello := append([]byte{0, 0, 0, 3}, optionBytes(optExportName, nil)...)
		play(t, size, append(hello, data...))

		want, whole := expected(data, size)
		data = append(data[:whole:whole], requestBytes(0, cmdDisc, 0, 0, 0)...)
		out := play(t, size, append(hello, data...))[18+10:]
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
	})
}

// A reply is what a request is answered with: n bytes if code is 0.
type reply struct {
	code uint32
	n    int
}

// expected reads requests as the protocol says, until one is not whole, ends
// the connection, or uses a cookie again. It returns the reply due to each
// cookie, and how many bytes the requests have.
func expected(data []byte, size uint64) (want map[uint64]reply, whole int) {
	want = make(map[uint64]reply)
	for rest := data; len(rest) >= 28 && binary.BigEndian.Uint32(rest) == 0x25609513; whole = len(data) - len(rest) {
		flags, kind := binary.BigEndian.Uint16(rest[4:]), binary.BigEndian.Uint16(rest[6:])
		off, n := binary.BigEndian.Uint64(rest[16:]), binary.BigEndian.Uint32(rest[24:])
		cookie := binary.BigEndian.Uint64(rest[8:])
		rest = rest[28:]
		r := reply{code: einval}
		switch kind {
		case cmdDisc:
			return want, whole
		case cmdWrite:
			if int64(n) > int64(len(rest)) {
				return want, whole
			}
			rest = rest[n:]
			r.code = eperm
		case cmdTrim, cmdWriteZeroes:
			r.code = eperm
		case cmdFlush:
			r.code = 0
		case cmdRead:
			if flags == 0 && off <= size && uint64(n) <= size-off {
				r = reply{n: int(n)}
			}
		}
		if _, again := want[cookie]; again {
			return want, whole
		}
		want[cookie] = r
	}
	return want, whole
}

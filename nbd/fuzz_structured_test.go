package nbd_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"caravel/nbd"
)

// Whatever requests a client sends that knows structured replies, each gets one
// that is well-formed and ends: a read has each of its bytes once, a status begins
// where it was asked for and goes no further.
func FuzzStructured(f *testing.F) {
	const size = 1 << 20
	say := func(requests ...[]byte) { f.Add(bytes.Join(requests, nil)) }
	say(requestBytes(0, cmdRead, 1, 0, 40_000), requestBytes(flagDF, cmdRead, 2, 4096, 40_000))
	say(requestBytes(0, cmdBlockStatus, 1, 10, size-10), requestBytes(flagReqOne, cmdBlockStatus, 2, 0, size))
	say(requestBytes(0, cmdBlockStatus, 1, size, 1), requestBytes(0, cmdRead, 2, 8192, 0), requestBytes(0, cmdRead, 3, size, 1))
	say(append(requestBytes(flagFUA, cmdWrite, 1, 0, 3), "abc"...), requestBytes(flagFUA, cmdTrim, 2, 0, size))
	say(requestBytes(flagFUA, cmdRead, 1, 0, 1), requestBytes(0, cmdFlush, 2, 0, 0), requestBytes(0, 99, 3, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, r := range []nbd.Reader{sparseReader{{8192, 8192}, {20_000, 5000}, {size - 4096, 4096}}, sink{}} {
			answers(t, r, size, data)
		}
	})
}

// An asked is a request, and what has been answered of it.
type asked struct {
	kind, flags uint16
	off         uint64
	n           uint32
	code        uint32 // that is due
	got         []byte // of a read: 1 for each byte that has come
}

// answers has a client send data to a server of r and checks all replies.
func answers(t *testing.T, r nbd.Reader, size int64, data []byte) {
	_, writable := r.(nbd.Writer)
	open, whole := expected(data, func(flags, kind uint16, off uint64, n uint32) *asked {
		a := &asked{kind: kind, flags: flags, off: off, n: n, code: dueStructured(flags, kind, off, n, uint64(size), writable)}
		if kind == cmdRead && a.code == 0 {
			a.got = make([]byte, n)
		}
		return a
	})
	said := bytes.Join([][]byte{{0, 0, 0, 3}, optionBytes(optStructured, nil), optionBytes(optSetMeta, metaData("", "base:allocation")),
		optionBytes(optExportName, nil), data[:whole], requestBytes(0, cmdDisc, 0, 0, 0)}, nil)
	// The greeting, two acknowledgements, a context, and the export.
	out := play(t, r, size, nbd.Options{}, said)[18+20+(20+4+len("base:allocation"))+20+10:]
	for len(out) > 0 {
		out = answered(t, r, open, out)
	}
	if len(open) > 0 {
		t.Fatalf("no reply, or no end of it: %v", open)
	}
}

// answered takes one simple reply, or a chunk, and returns what comes behind.
func answered(t *testing.T, r nbd.Reader, open map[uint64]*asked, out []byte) []byte {
	t.Helper()
	if len(out) < 16 {
		t.Fatalf("% x at the end", out)
	}
	a := open[binary.BigEndian.Uint64(out[8:])]
	if a == nil {
		t.Fatalf("a reply that nobody waits for: % x", out[:16])
	}
	if binary.BigEndian.Uint32(out) == 0x67446698 {
		if code := binary.BigEndian.Uint32(out[4:]); code != a.code || a.kind == cmdRead || a.kind == cmdBlockStatus {
			t.Fatalf("simple reply with error %d to %+v", code, a)
		}
		delete(open, binary.BigEndian.Uint64(out[8:]))
		return out[16:]
	}
	if len(out) < 20 || binary.BigEndian.Uint32(out) != 0x668e33ef || int64(binary.BigEndian.Uint32(out[16:])) > int64(len(out)-20) {
		t.Fatalf("no chunk: % x", out[:min(len(out), 20)])
	}
	k := chunk{flags: binary.BigEndian.Uint16(out[4:]), kind: binary.BigEndian.Uint16(out[6:]), cookie: binary.BigEndian.Uint64(out[8:])}
	k.data = out[20:][:binary.BigEndian.Uint32(out[16:])]
	a.chunk(t, r, k)
	if k.flags&1 != 0 {
		if bytes.IndexByte(a.got, 0) >= 0 {
			t.Fatalf("the end of %+v, of which not all has come", a)
		}
		delete(open, k.cookie)
	}
	return out[20+len(k.data):]
}

// chunk checks one chunk of a's reply.
func (a *asked) chunk(t *testing.T, r nbd.Reader, k chunk) {
	t.Helper()
	wrong := func(why string) { t.Helper(); t.Fatalf("%s: chunk %+v of the reply to %+v", why, k, a) }
	last := k.flags == 1
	if k.flags > 1 || a.flags&flagDF != 0 && !last {
		wrong("flags")
	}
	var off, n int
	switch {
	case k.kind == 1<<15|1: // an error
		if len(k.data) < 6 || binary.BigEndian.Uint32(k.data) != a.code || a.code == 0 || int(binary.BigEndian.Uint16(k.data[4:])) != len(k.data)-6 || !last {
			wrong("error")
		}
		a.got = nil
		return
	case a.code != 0:
		wrong("an error is due")
	case a.kind == cmdRead && k.kind == 0 && last && len(k.data) == 0:
		return
	case a.kind == cmdRead && k.kind == 1 && len(k.data) > 8:
		off, n = int(binary.BigEndian.Uint64(k.data))-int(a.off), len(k.data)-8
	case a.kind == cmdRead && k.kind == 2 && len(k.data) == 12:
		off, n = int(binary.BigEndian.Uint64(k.data))-int(a.off), int(binary.BigEndian.Uint32(k.data[8:]))
	case a.kind == cmdBlockStatus && k.kind == 5 && last:
		a.status(k.data, wrong)
		return
	default:
		wrong("kind")
	}
	if off < 0 || n == 0 || off+n > len(a.got) || bytes.IndexByte(a.got[off:off+n], 1) >= 0 {
		wrong("outside, or again")
	}
	copy(a.got[off:], bytes.Repeat([]byte{1}, n))
	p := make([]byte, n)
	r.ReadAt(t.Context(), p, int64(a.off)+int64(off))
	if want := k.data[8:]; k.kind == 1 && !bytes.Equal(p, want) || k.kind == 2 && !bytes.Equal(p, make([]byte, n)) {
		wrong("other bytes")
	}
}

// status checks what is told of base:allocation.
func (a *asked) status(data []byte, wrong func(string)) {
	if len(data) < 12 || len(data)%8 != 4 || binary.BigEndian.Uint32(data) != 1 || a.flags&flagReqOne != 0 && len(data) != 12 {
		wrong("status")
	}
	sum := uint64(0)
	for runs := data[4:]; len(runs) > 0; runs = runs[8:] {
		n, state := binary.BigEndian.Uint32(runs), binary.BigEndian.Uint32(runs[4:])
		if sum += uint64(n); n == 0 || state != 0 && state != 3 || sum > uint64(a.n) {
			wrong("run")
		}
	}
}

// dueStructured is the error of the reply to one request, where replies are
// structured and base:allocation is told.
func dueStructured(flags, kind uint16, off uint64, n uint32, size uint64, writable bool) uint32 {
	may := map[uint16]uint16{cmdRead: flagDF, cmdBlockStatus: flagReqOne}[kind]
	if kind != cmdBlockStatus {
		return due(flags&^may, kind, off, n, size, writable).code
	}
	if writable {
		may |= flagFUA
	}
	if flags&^may != 0 || n == 0 || off > size || uint64(n) > size-off {
		return einval
	}
	return 0
}

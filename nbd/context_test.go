package nbd_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"caravel/nbd"
)

// partialReader is sparse and knows what is here: offset and length each.
type partialReader struct {
	sparseReader
	local [][2]int64
}

func (p partialReader) Local(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for _, r := range p.local {
			if (r[1] == 0 || r[0] < off+n && r[0]+r[1] > off) && !yield(r[0], r[1]) {
				return
			}
		}
	}
}

// status asks for the status of n bytes at off and returns the replies' runs by
// context.
func (c *client) status(flags uint16, off, n int) map[uint32]string {
	c.Helper()
	all := make(map[uint32]string)
	c.request(flags, cmdBlockStatus, 9, uint64(off), uint32(n))
	for {
		k := c.chunk()
		if k.kind != 5 || k.cookie != 9 {
			c.Fatalf("status: chunk %+v", k)
		}
		id := binary.BigEndian.Uint32(k.data)
		var runs []uint32
		for b := k.data[4:]; len(b) > 0; b = b[4:] {
			runs = append(runs, binary.BigEndian.Uint32(b))
		}
		if all[id] != "" {
			c.Fatalf("context %d told of twice", id)
		}
		all[id] = fmt.Sprint(runs)
		if k.flags == 1 {
			return all
		}
	}
}

func TestContextsOffered(t *testing.T) {
	both := partialReader{sparseReader{{0, mib}}, nil}
	only := struct {
		patternReader
		nbd.Partial
	}{Partial: both}
	c := greeted(t, serve(t, nbd.Options{}, nbd.Export{Name: "both", Size: mib, Reader: both},
		nbd.Export{Name: "only", Size: mib, Reader: only}, nbd.Export{Name: "none", Size: mib, Reader: patternReader{}}), 3)
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	for _, tt := range []struct {
		id      uint32
		export  string
		queries []string
		want    []string
	}{
		{optListMeta, "both", nil, []string{"\x00\x00\x00\x00base:allocation", "\x00\x00\x00\x00caravel:cached"}},
		{optListMeta, "both", []string{"caravel:"}, []string{"\x00\x00\x00\x00caravel:cached"}},
		{optListMeta, "both", []string{"base:", "caravel:cached", "caravel:"}, []string{"\x00\x00\x00\x00base:allocation", "\x00\x00\x00\x00caravel:cached"}},
		{optListMeta, "both", []string{"caravel:cach", "caravel", ""}, nil},
		{optListMeta, "only", nil, []string{"\x00\x00\x00\x00caravel:cached"}},
		{optListMeta, "none", nil, nil},
		{optSetMeta, "both", nil, nil},
		{optSetMeta, "both", []string{"caravel:", "base:"}, nil},
		{optSetMeta, "both", []string{"caravel:cached", "caravel:cached"}, []string{"\x00\x00\x00\x02caravel:cached"}},
		{optSetMeta, "only", []string{"base:allocation"}, nil},
		{optSetMeta, "both", []string{"caravel:cached", "base:allocation"}, []string{"\x00\x00\x00\x01base:allocation", "\x00\x00\x00\x02caravel:cached"}},
	} {
		c.option(tt.id, metaData(tt.export, tt.queries...))
		for _, want := range tt.want {
			if got := c.wantReply(tt.id, repMeta); string(got) != want {
				t.Errorf("%d %s %q: got %q, want %q", tt.id, tt.export, tt.queries, got, want)
			}
		}
		c.wantReply(tt.id, repAck)
	}
	c.choose("both") // what was set last holds
	if got := fmt.Sprint(c.status(0, 0, 4096)); got != "map[1:[4096 3] 2:[4096 0]]" {
		t.Error(got)
	}
}

func TestBlockStatusOfTwoContexts(t *testing.T) {
	r := partialReader{sparseReader{{0, mib}, {3 * mib, mib}}, [][2]int64{{0, 4096}, {4096, 4096}, {mib, 2 * mib}, {4 * mib, 4096}, {5 * mib, 0}}}
	c := greeted(t, serve(t, nbd.Options{}, nbd.Export{Size: 8 * mib, Reader: r}), 3)
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	c.option(optSetMeta, metaData("", "base:allocation", "caravel:cached"))
	for _, want := range []uint32{repMeta, repMeta, repAck} {
		c.wantReply(optSetMeta, want)
	}
	c.choose("")
	for _, tt := range []struct {
		flags  uint16
		off, n int
		want   string
	}{
		{0, 0, 4 * mib, "map[1:[1048576 3 2097152 0 1048576 3] 2:[8192 1 1040384 0 2097152 1 1048576 0]]"},
		{flagReqOne, 0, 4 * mib, "map[1:[1048576 3] 2:[8192 1]]"},
		{0, 2*mib + 1, 10, "map[1:[10 0] 2:[10 1]]"},
		// Nobody has looked behind 5 MiB: that is told when it is asked for.
		{0, 4 * mib, 4 * mib, "map[1:[4194304 0] 2:[4096 1 1044480 0]]"},
		{0, 5 * mib, mib, "map[1:[1048576 0] 2:[1048576 0]]"},
	} {
		if got := fmt.Sprint(c.status(tt.flags, tt.off, tt.n)); got != tt.want {
			t.Errorf("status of %d at %d: got %s, want %s", tt.n, tt.off, got, tt.want)
		}
	}
	c.wantReadOfHole()
}

// wantReadOfHole has nothing lost step after all these.
func (c *client) wantReadOfHole() {
	c.Helper()
	c.structured = true
	c.request(0, cmdRead, 3, 0, 4096)
	if k := c.chunk(); k.kind != 2 || k.flags != 1 {
		c.Errorf("read of a hole: %+v", k)
	}
}

// A striped export has a hole at every second byte, and counts who asks.
type striped struct {
	patternReader
	asked *atomic.Int64
}

func (s striped) Holes(off, n int64) iter.Seq2[int64, int64] {
	s.asked.Add(1)
	return func(yield func(int64, int64) bool) {
		for at := off; at < off+n && yield(at, 1); at += 2 {
		}
	}
}

// What BLOCK_STATUS says is memory as bytes are: a client that takes nothing is
// not told more than fits.
func TestBlockStatusTakesMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		s, err := nbd.NewServer([]nbd.Export{{Size: 32 * mib, Reader: striped{asked: &asked}}}, nbd.Options{Requests: 4096, ConnMemory: 32 * mib})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.ServeConn(t.Context(), far) }()
		c := &client{TB: t, Conn: near}
		c.bytes(18)
		c.send(uint32(3))
		c.option(optStructured, nil)
		c.wantReply(optStructured, repAck)
		c.option(optSetMeta, metaData("", "base:allocation"))
		c.wantReply(optSetMeta, repMeta)
		c.wantReply(optSetMeta, repAck)
		c.choose("")
		c.request(flagDF, cmdRead, 1, 0, mib) // large: who sends it takes no requests meanwhile
		synctest.Wait()
		go func() {
			_, _ = c.Write(bytes.Repeat(requestBytes(0, cmdBlockStatus, 2, 0, 8192), 2048))
		}()
		synctest.Wait()
		if n := asked.Load(); n < 100 || n > 1024 { // of 32 KiB each
			t.Errorf("%d replies are held", n)
		}
		c.Close()
		<-done
	})
}

// Exports that are not listed are for who knows a name, and the empty one is none.
func TestUnlisted(t *testing.T) {
	socket := serve(t, nbd.Options{Unlisted: true}, twoExports()...)
	c := greeted(t, socket, 3)
	c.option(optList, nil)
	c.wantReply(optList, errPolicy)
	c.option(optList, []byte{1})
	c.wantReply(optList, errInvalid)
	for _, id := range []uint32{optInfo, optGo} {
		c.option(id, goData("", 1, 2, 3))
		c.wantReply(id, errUnknown)
	}
	c.choose("disk")
	c.wantRead(0, 512)
	c = greeted(t, socket, 3)
	c.option(optExportName, nil)
	c.wantEnd()
	c = greeted(t, serve(t, nbd.Options{Unlisted: true}, nbd.Export{Size: mib, Reader: patternReader{}}), 3)
	c.choose("") // is called so
}

// replied takes a reply of one chunk or none, and returns its cookie.
func (c *client) replied() uint64 {
	c.Helper()
	switch magic := c.uint32(); magic {
	case 0x67446698:
		c.uint32()
		return c.uint64()
	case 0x668e33ef:
		c.uint32()
		cookie := c.uint64()
		c.bytes(int(c.uint32()))
		return cookie
	default:
		c.Fatalf("reply magic %#x", magic)
		return 0
	}
}

// TestBlockStatusFirst has the status of blocks answered before the reads that have
// arrived with the question, but not before what may have a payload.
func TestBlockStatusFirst(t *testing.T) {
	const r, w, f, s = cmdRead, cmdWrite, cmdFlush, cmdBlockStatus
	// One at a time, so that the order of the replies is that of the answers.
	socket := serve(t, nbd.Options{Requests: 1}, nbd.Export{Name: "disk", Size: mib, Reader: sparseReader{{4096, 4096}}})
	for _, tt := range []struct{ asked, want []uint64 }{
		{[]uint64{r, r, r, s}, []uint64{3, 0, 1, 2}},
		{[]uint64{r, s, r, s, s, r}, []uint64{1, 3, 4, 0, 2, 5}},
		{[]uint64{s, r, s}, []uint64{0, 2, 1}},
		{[]uint64{r, s, w, r, s}, []uint64{1, 0, 2, 3, 4}},
		{[]uint64{r, f, s}, []uint64{0, 1, 2}},
	} {
		c := greeted(t, socket, 3)
		c.structured = true
		c.option(optStructured, nil)
		c.wantReply(optStructured, repAck)
		c.option(optSetMeta, metaData("disk", "base:allocation"))
		c.wantReply(optSetMeta, repMeta)
		c.wantReply(optSetMeta, repAck)
		c.choose("disk")
		var all []byte
		for i, kind := range tt.asked {
			all = append(all, requestBytes(0, uint16(kind), uint64(i), 512, 512)...)
			if kind == w {
				// What looks like a request that could be brought forward.
				all = append(all, requestBytes(0, s, 99, 0, 512)...)
				all = append(all, make([]byte, 512-28)...)
			}
		}
		c.send(append(all, requestBytes(0, cmdDisc, 0, 0, 0)...))
		for _, want := range tt.want {
			if got := c.replied(); got != want {
				t.Fatalf("%v: reply to %d, want that to %d", tt.asked, got, want)
			}
		}
		c.wantEnd()
	}
}

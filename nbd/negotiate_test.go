package nbd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"caravel/nbd"
)

const mib = 1 << 20

func twoExports() []nbd.Export {
	return []nbd.Export{
		{Name: "disk", Description: "a disk", Size: 10*mib + 1, Reader: patternReader{}, Preferred: 64 << 10},
		{Name: "sparse", Size: 8 * mib, Reader: sparseReader{{mib, mib}, {2 * mib, 4096}, {6 * mib, 2 * mib}}},
	}
}

func TestNewServerRejects(t *testing.T) {
	good := nbd.Export{Name: "a", Size: 1, Reader: patternReader{}}
	with := func(change func(*nbd.Export)) []nbd.Export {
		e := good
		change(&e)
		return []nbd.Export{e}
	}
	tests := []struct {
		name    string
		exports []nbd.Export
		opt     nbd.Options
		want    string
	}{
		{"nothing", nil, nbd.Options{}, "no export"},
		{"the same name twice", []nbd.Export{good, good}, nbd.Options{}, `export "a": given twice`},
		{"no reader", with(func(e *nbd.Export) { e.Reader = nil }), nbd.Options{}, "no reader"},
		{"negative size", with(func(e *nbd.Export) { e.Size = -1 }), nbd.Options{}, "size -1"},
		{"long name", with(func(e *nbd.Export) { e.Name = strings.Repeat("x", 4097) }), nbd.Options{}, "over 4096"},
		{"odd block size", with(func(e *nbd.Export) { e.Preferred = 5000 }), nbd.Options{}, "preferred block size 5000"},
		{"small block size", with(func(e *nbd.Export) { e.Preferred = 256 }), nbd.Options{}, "preferred block size 256"},
		{"no room for one request", []nbd.Export{good}, nbd.Options{Memory: mib}, "must hold one request"},
		{"negative grace", []nbd.Export{good}, nbd.Options{Grace: -1}, "negative time limit"},
		{"negative limit", []nbd.Export{good}, nbd.Options{Requests: -1}, "negative limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := nbd.NewServer(tt.exports, tt.opt)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestExportName(t *testing.T) {
	socket := serve(t, nbd.Options{}, twoExports()...)
	for _, tt := range []struct {
		name   string
		export string
		flags  uint32
		size   uint64
		zeroes int
	}{
		{"without zeroes", "sparse", 3, 8 * mib, 0},
		{"with zeroes", "disk", 1, 10*mib + 1, 124},
		{"default", "", 3, 10*mib + 1, 0},
		{"client that is not fixed", "disk", 0, 10*mib + 1, 124},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := greeted(t, socket, tt.flags)
			c.option(optExportName, []byte(tt.export))
			if size, flags := c.uint64(), c.uint16(); size != tt.size || flags != 0x103 {
				t.Errorf("size %d, flags %#x", size, flags)
			}
			if b := c.bytes(tt.zeroes); !bytes.Equal(b, make([]byte, tt.zeroes)) {
				t.Errorf("not zero: % x", b)
			}
			c.wantRead(5, 100)
		})
	}
	t.Run("unknown", func(t *testing.T) {
		c := greeted(t, socket, 3)
		c.option(optExportName, []byte("other"))
		c.wantEnd()
	})
}

func TestList(t *testing.T) {
	c := greeted(t, serve(t, nbd.Options{}, twoExports()...), 3)
	c.option(optList, nil)
	for _, want := range []string{"\x00\x00\x00\x04diska disk", "\x00\x00\x00\x06sparse"} {
		if got := c.wantReply(optList, repServer); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	c.wantReply(optList, repAck)
	c.option(optList, []byte{1})
	c.wantReply(optList, errInvalid)
}

func TestInfo(t *testing.T) {
	c := greeted(t, serve(t, nbd.Options{}, twoExports()...), 3)
	c.option(optInfo, goData("", 1, 2, 3, 99))
	for _, want := range []string{
		"\x00\x00\x00\x00\x00\x00\x00\xa0\x00\x01\x01\x03",
		"\x00\x03\x00\x00\x00\x01\x00\x01\x00\x00\x02\x00\x00\x00",
		"\x00\x01disk",
		"\x00\x02a disk",
	} {
		if got := c.wantReply(optInfo, repInfo); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	c.wantReply(optInfo, repAck)

	c.option(optInfo, goData("other"))
	c.wantReply(optInfo, errUnknown)
	c.option(optInfo, []byte{0, 0, 0, 200, 'x', 0, 0})
	c.wantReply(optInfo, errInvalid)
	c.option(optInfo, append(goData("disk"), 0))
	c.wantReply(optInfo, errInvalid)
	c.option(optInfo, goData(strings.Repeat("x", 4097)))
	c.wantReply(optInfo, errTooBig)

	// After all these the export can still be chosen; DF comes with
	// structured replies.
	c.option(optStructured, []byte{1})
	c.wantReply(optStructured, errInvalid)
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	c.structured = true
	c.option(optGo, goData("disk"))
	if got := c.wantReply(optGo, repInfo); binary.BigEndian.Uint16(got[10:]) != 0x183 {
		t.Errorf("flags % x", got[10:])
	}
	c.wantReply(optGo, repInfo)
	c.wantReply(optGo, repAck)
	c.wantRead(10*mib, 1)
}

func TestAbort(t *testing.T) {
	c := greeted(t, serve(t, nbd.Options{}, twoExports()...), 3)
	c.option(optAbort, []byte("ignored"))
	c.wantReply(optAbort, repAck)
	c.wantEnd()
}

func TestUnknownOptions(t *testing.T) {
	c := greeted(t, serve(t, nbd.Options{}, twoExports()...), 3)
	for _, id := range []uint32{4, optStartTLS, 11, 0xffffffff} {
		c.option(id, make([]byte, 1000))
		c.wantReply(id, errUnsup)
	}
	c.choose("disk")
	c.wantRead(0, 512)
}

func TestMetaContext(t *testing.T) {
	c := greeted(t, serve(t, nbd.Options{}, twoExports()...), 3)
	for _, id := range []uint32{optListMeta, optSetMeta} {
		c.option(id, metaData("sparse", "base:allocation"))
		c.wantReply(id, errInvalid) // no structured replies yet
	}
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	for _, tt := range []struct {
		id      uint32
		export  string
		queries []string
		want    string // reply; empty: none
	}{
		{optListMeta, "sparse", nil, "\x00\x00\x00\x00base:allocation"},
		{optListMeta, "sparse", []string{"base:"}, "\x00\x00\x00\x00base:allocation"},
		{optListMeta, "sparse", []string{"x-y:", "base:allocation"}, "\x00\x00\x00\x00base:allocation"},
		{optListMeta, "sparse", []string{"qemu:dirty"}, ""},
		{optListMeta, "disk", nil, ""}, // has no holes to tell of
		{optSetMeta, "sparse", nil, ""},
		{optSetMeta, "sparse", []string{"base:"}, ""},
		{optSetMeta, "sparse", []string{"base:other", "base:allocation"}, "\x00\x00\x00\x01base:allocation"},
	} {
		t.Run(fmt.Sprint(tt.id, tt.export, tt.queries), func(t *testing.T) {
			c.option(tt.id, metaData(tt.export, tt.queries...))
			if tt.want != "" {
				if got := c.wantReply(tt.id, repMeta); string(got) != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}
			c.wantReply(tt.id, repAck)
		})
	}
	c.option(optListMeta, metaData("other"))
	c.wantReply(optListMeta, errUnknown)
	c.option(optListMeta, append(metaData("sparse"), 1))
	c.wantReply(optListMeta, errInvalid)
	c.option(optListMeta, []byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	c.wantReply(optListMeta, errInvalid)

	// What was set is still set for that export, and for no other.
	c.choose("sparse")
	c.request(0, cmdBlockStatus, 1, 0, mib)
	if k := c.chunk(); k.kind != 5 {
		t.Errorf("block status: %+v", k)
	}
}

func TestMetaContextOfAnotherExport(t *testing.T) {
	exports := twoExports()
	exports = append(exports, nbd.Export{Name: "sparse2", Size: mib, Reader: sparseReader{{0, mib}}})
	socket := serve(t, nbd.Options{}, exports...)
	for _, second := range [][]byte{nil, optionBytes(optSetMeta, metaData("nowhere", "base:allocation"))} {
		c := greeted(t, socket, 3)
		c.option(optStructured, nil)
		c.wantReply(optStructured, repAck)
		c.option(optSetMeta, metaData("sparse", "base:allocation"))
		c.wantReply(optSetMeta, repMeta)
		c.wantReply(optSetMeta, repAck)
		name := "sparse2"
		if second != nil { // a failed SET forgets the one before
			c.send(second)
			c.wantReply(optSetMeta, errUnknown)
			name = "sparse"
		}
		c.choose(name)
		c.request(0, cmdBlockStatus, 1, 0, 4096)
		if k := c.chunk(); k.kind != 1<<15|1 || binary.BigEndian.Uint32(k.data) != einval {
			t.Errorf("block status of %s: %+v", name, k)
		}
	}
}

func TestNegotiationRejects(t *testing.T) {
	header := func(magic uint64, id, n uint32) []byte {
		b := binary.BigEndian.AppendUint64(nil, magic)
		b = binary.BigEndian.AppendUint32(b, id)
		return binary.BigEndian.AppendUint32(b, n)
	}
	const magic = 0x49484156454f5054
	socket := serve(t, nbd.Options{}, twoExports()...)
	for _, tt := range []struct {
		name  string
		flags uint32
		bytes []byte
	}{
		{"unknown client flags", 7, nil},
		{"bad magic", 3, header(magic+1, optList, 0)},
		{"huge option", 3, header(magic, optGo, 1<<32-1)},
		{"huge unknown option", 3, header(magic, 77, 64<<10+1)},
		{"huge name", 3, header(magic, optExportName, 4<<20)},
		{"name over 4096", 3, optionBytes(optExportName, make([]byte, 4097))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := greeted(t, socket, tt.flags)
			c.Write(tt.bytes) // may fail if the server is quick
			c.wantEnd()
		})
	}
	t.Run("flood of options", func(t *testing.T) {
		c := greeted(t, socket, 3)
		go c.Write(bytes.Repeat(optionBytes(77, nil), 2000))
		for i := range 1024 {
			if kind, _ := c.reply(77); kind != errUnsup {
				t.Fatalf("option %d: reply %#x", i, kind)
			}
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes after 1024 options", n)
		}
	})
}

func TestNegotiationTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := nbd.NewServer(twoExports(), nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		done := make(chan error, 1)
		start := time.Now()
		var took time.Duration
		go func() {
			err := s.ServeConn(t.Context(), far)
			took = time.Since(start)
			done <- err
		}()
		c := &client{TB: t, Conn: near}
		c.bytes(18)
		c.send(uint32(3))
		for i := 0; ; i++ { // a byte now and then keeps nobody
			if _, err := c.Write(optionBytes(optList, nil)[i : i+1]); err != nil {
				break
			}
			time.Sleep(1500 * time.Millisecond)
		}
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

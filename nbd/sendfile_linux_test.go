package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"caravel/nbd"
)

// A backedReader is a file; how often it is read itself is counted.
type backedReader struct {
	file *os.File
	not  bool // backed just now
	read atomic.Int64
}

func (b *backedReader) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	b.read.Add(1)
	return b.file.ReadAt(p, off)
}

func (b *backedReader) Backing() *os.File {
	if b.not {
		return nil
	}
	return b.file
}

func backed(t *testing.T, data []byte) *backedReader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &backedReader{file: f}
}

// What is read of a file comes out of it past the server, in a chunk that leaves
// open how it ends, where a client can be told that it has failed.
func TestFile(t *testing.T) {
	const size = 4*mib + 5
	data := patterned(0, size)
	tests := []struct {
		name       string
		structured bool
		flags      uint16
		off        int64
		n          int
		not        bool
		past       bool // the server
	}{
		{"structured", true, 0, 4097, 256 << 10, false, true},
		{"to the end", true, 0, size - 100_000, 100_000, false, true},
		{"all of it", true, 0, 0, size, false, true},
		{"little", true, 0, 4097, 64<<10 - 1, false, false},
		{"in one piece", true, flagDF, 4097, 256 << 10, false, false},
		{"no file just now", true, 0, 4097, 256 << 10, true, false},
		{"simple", false, 0, 4097, 256 << 10, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := backed(t, data)
			r.not = tt.not
			c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: size, Reader: r}), "", tt.structured)
			for range 3 {
				c.request(tt.flags, cmdRead, 7, uint64(tt.off), uint32(tt.n))
			}
			for range 3 {
				if got := whole(c, tt.n, tt.past); !bytes.Equal(got, data[tt.off:][:tt.n]) {
					t.Error("other bytes than are there")
				}
			}
			if past := r.read.Load() == 0; past != tt.past {
				t.Errorf("read past the server: %t", past)
			}
		})
	}
}

// whole is the answer to a read, in one chunk or in two.
func whole(c *client, n int, two bool) []byte {
	if !c.structured {
		_, _, data := c.simple(n)
		return data
	}
	k := c.chunk()
	if want := map[bool]uint16{true: 0, false: 1}[two]; k.flags != want || k.kind != 1 {
		c.Fatalf("a chunk of %d bytes with flags %d and kind %#x, want flags %d and kind 1", len(k.data), k.flags, k.kind, want)
	}
	if two {
		if end := c.chunk(); end.flags != 1 || end.kind != 0 || len(end.data) != 0 {
			c.Fatalf("a chunk of %d bytes with flags %d and kind %#x behind the data", len(end.data), end.flags, end.kind)
		}
	}
	return k.data[8:]
}

// A file that ends before the export does is EIO from there on, and the connection
// goes on.
func TestFileCut(t *testing.T) {
	const size, cut = mib, 300_000
	data := patterned(0, size)
	r := backed(t, data)
	c := open(t, serve(t, nbd.Options{}, nbd.Export{Size: size, Reader: r}), "", true)
	if got := whole(c.asks(0, size), size, true); !bytes.Equal(got, data) {
		t.Fatal("other bytes than are there")
	}
	if err := r.file.Truncate(cut); err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	begun := 0
	for _, tt := range []struct {
		off uint64
		n   int
	}{
		{200_000, 128 << 10},                        // of which some is in memory,
		{400_000, 128 << 10},                        // none,
		{200_000, (cut+page-1)/page*page - 200_000}, // all, as far as pages go
	} {
		k := c.asks(tt.off, uint32(tt.n)).chunk()
		if k.kind == 1 {
			begun++
			good := max(cut-int(tt.off), 0)
			if len(k.data) != 8+tt.n || !bytes.Equal(k.data[8:][:good], data[tt.off:][:good]) {
				t.Errorf("read at %d: %d bytes, or others than are there", tt.off, len(k.data)-8)
			}
			k = c.chunk()
		}
		if k.kind != 0x8002 || k.flags != 1 || len(k.data) < 14 {
			t.Fatalf("read at %d: kind %#x, flags %d, %d bytes", tt.off, k.kind, k.flags, len(k.data))
		}
		at := binary.BigEndian.Uint64(k.data[len(k.data)-8:])
		if code := binary.BigEndian.Uint32(k.data); code != eio || at < cut || at > max(tt.off, cut) {
			t.Errorf("read at %d: error %d at %d", tt.off, code, at)
		}
	}
	if begun == 0 {
		t.Error("no read had begun when the file ended")
	}
	if got := whole(c.asks(0, 128<<10), 128<<10, true); !bytes.Equal(got, data[:128<<10]) {
		t.Error("other bytes than are there")
	}
}

// asks requests a read.
func (c *client) asks(off uint64, n uint32) *client {
	c.request(0, cmdRead, 7, off, n)
	return c
}

// What a client does not take of a file is no reason for others to wait, or for
// the server not to end.
func TestFileToNobody(t *testing.T) {
	const size = 4 * mib
	r := backed(t, patterned(0, size))
	socket := serve(t, nbd.Options{}, nbd.Export{Size: size, Reader: r})
	var silent []*client
	for range 3 {
		c := open(t, socket, "", true)
		for range 20 {
			c.asks(0, size)
		}
		silent = append(silent, c)
	}
	for i := range 5 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c := open(t, socket, "", true)
			if got := whole(c.asks(0, size), size, true); !bytes.Equal(got, patterned(0, size)) {
				t.Error("other bytes than are there")
			}
		})
	}
	silent[0].Close()
}

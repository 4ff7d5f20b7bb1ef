package nbd_test

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/nbd"
)

// farReader takes 20 ms for each read.
type farReader struct {
	sparseReader
	bad   int64 // cannot be read from there on; 0: all can
	reads atomic.Int64
}

func (f *farReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.reads.Add(1)
	time.Sleep(20 * time.Millisecond)
	if f.bad > 0 && off+int64(len(p)) > f.bad {
		return int(max(0, f.bad-off)), errBad
	}
	return f.sparseReader.ReadAt(ctx, p, off)
}

// comb is holes of 4 KiB with data of 4 KiB in front of each.
func comb(teeth int) (s sparseReader) {
	for i := range int64(teeth) {
		s = append(s, [2]int64{i*8192 + 4096, 4096})
	}
	return s
}

// The runs of data in one read are read at the same time, and not all of a great
// many at once.
func TestRunsOfOneReadAtOnce(t *testing.T) {
	for _, tt := range []struct {
		teeth int
		bad   int64
		took  time.Duration
	}{
		{1, 0, 20 * time.Millisecond},
		{16, 0, 20 * time.Millisecond},
		{160, 0, 200 * time.Millisecond},
		{160, 3*8192 + 5, 20 * time.Millisecond}, // behind a failure nothing is begun, but by who ended at the same time
	} {
		synctest.Test(t, func(t *testing.T) {
			size := int64(tt.teeth) * 8192
			r := &farReader{sparseReader: comb(tt.teeth), bad: tt.bad}
			s, err := nbd.NewServer([]nbd.Export{{Size: size, Reader: r}}, nbd.Options{})
			if err != nil {
				t.Fatal(err)
			}
			c, done := pipedStructured(t, s)
			start := time.Now()
			c.request(0, cmdRead, 7, 0, uint32(size))
			if at := c.wantRuns(r.sparseReader, size); at != tt.bad {
				t.Errorf("%d runs: cannot be read at %d, want %d", tt.teeth, at, tt.bad)
			}
			took := time.Since(start)
			if tt.bad > 0 && took == 2*tt.took {
				took = tt.took
			}
			if took != tt.took {
				t.Errorf("%d runs took %v, want %v", tt.teeth, took, tt.took)
			}
			c.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// wantRuns takes the reply to a read from 0 on, and returns where it says that the
// export is unreadable, or 0.
func (c *client) wantRuns(r sparseReader, size int64) (bad int64) {
	want := make([]byte, size)
	r.ReadAt(context.Background(), want, 0)
	for at := int64(0); ; {
		k := c.chunk()
		if k.kind == 1<<15|2 {
			return int64(binary.BigEndian.Uint64(k.data[len(k.data)-8:]))
		}
		n := int64(len(k.data) - 8)
		if off := int64(binary.BigEndian.Uint64(k.data)); off != at {
			c.Fatalf("chunk at %d, want %d", off, at)
		}
		got := k.data[8:]
		if k.kind == 2 {
			n = int64(binary.BigEndian.Uint32(k.data[8:]))
			got = make([]byte, n)
		}
		if string(got) != string(want[at:at+n]) {
			c.Fatalf("chunk at %d has other bytes", at)
		}
		if at += n; k.flags == 1 {
			if at != size {
				c.Fatalf("the last chunk ends at %d", at)
			}
			return 0
		}
	}
}

// pipedStructured is a client of s with structured replies.
func pipedStructured(t *testing.T, s *nbd.Server) (*client, chan error) {
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(context.Background(), far) }()
	c := &client{TB: t, Conn: near, structured: true}
	c.bytes(18)
	c.send(uint32(3))
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	c.choose("")
	return c, done
}

// An export that wants it sends zeros where its holes are, and tells of them when
// asked.
func TestZerosSent(t *testing.T) {
	r := comb(4)
	socket := serve(t, nbd.Options{}, nbd.Export{Size: 32768, Reader: r, Zeros: true})
	c := greeted(t, socket, 3)
	c.structured = true
	c.option(optStructured, nil)
	c.wantReply(optStructured, repAck)
	c.option(optSetMeta, metaData("", "base:allocation"))
	c.wantReply(optSetMeta, repMeta)
	c.wantReply(optSetMeta, repAck)
	c.choose("")
	want := make([]byte, 32768)
	r.ReadAt(t.Context(), want, 0)
	if got, code := c.read(0, 32768); code != 0 || string(got) != string(want) {
		t.Errorf("error %d, or other bytes", code)
	}
	if got := c.status(0, 0, 16384)[1]; got != "[4096 0 4096 3 4096 0 4096 3]" {
		t.Errorf("holes: %s", got)
	}
}

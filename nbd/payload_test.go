package nbd_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/nbd"
)

// piped has a client of s over a pipe, which holds no bytes by itself.
func piped(t *testing.T, s *nbd.Server) (*client, chan error) {
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(t.Context(), far) }()
	c := &client{TB: t, Conn: near}
	c.bytes(18)
	c.send(uint32(3))
	c.choose("")
	return c, done
}

// The payload of a write is not read before there is memory for it.
func TestWriteWaitsForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		w := &slate{data: make([]byte, 64*mib), before: func(string) { <-gate }}
		s, err := nbd.NewServer([]nbd.Export{{Size: 64 * mib, Reader: w}}, nbd.Options{Memory: 32 * mib})
		if err != nil {
			t.Fatal(err)
		}
		first, ended := piped(t, s)
		first.request(0, cmdWrite, 1, 0, 32*mib)
		first.send(make([]byte, 32*mib))
		second, over := piped(t, s)
		second.request(0, cmdWrite, 2, 32*mib, 32*mib)
		var sent atomic.Bool
		go func() {
			_, _ = second.Write(make([]byte, 32*mib))
			sent.Store(true)
		}()
		synctest.Wait()
		if sent.Load() {
			t.Error("a payload was read that there is no memory for")
		}
		// One that is refused takes none.
		third, gone := piped(t, s)
		third.request(0, cmdWrite, 3, 64*mib, 32*mib)
		third.send(make([]byte, 32*mib))
		if code := third.answer(3); code != enospc {
			t.Errorf("error %d", code)
		}
		close(gate)
		if code := first.answer(1); code != 0 {
			t.Errorf("error %d", code)
		}
		if code := second.answer(2); code != 0 {
			t.Errorf("error %d", code)
		}
		for _, c := range []*client{first, second, third} {
			c.Close()
		}
		for _, done := range []chan error{ended, over, gone} {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// A client that does not send what it has begun to write, and keeps memory that
// another one waits for, is sent away; without that need it may stay.
func TestSilentWriterMakesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slate{data: make([]byte, 64*mib)}
		s, err := nbd.NewServer([]nbd.Export{{Size: 64 * mib, Reader: w}}, nbd.Options{Memory: 32 * mib})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // what the first one held has been given back
			silent, sent := piped(t, s)
			silent.request(0, cmdWrite, 1, 0, 32*mib)
			silent.send(make([]byte, 1000))
			time.Sleep(time.Hour) // of the bubble
			select {
			case err := <-sent:
				t.Fatalf("sent away without need: %v", err)
			default:
			}
			c, done := piped(t, s)
			c.request(0, cmdWrite, 2, 0, 32*mib)
			c.send(make([]byte, 32*mib))
			if code := c.answer(2); code != 0 {
				t.Errorf("error %d", code)
			}
			if err := <-sent; err == nil || !strings.Contains(err.Error(), "sends no payload") {
				t.Errorf("silent client: %v", err)
			}
			c.Close()
			if err := <-done; err != nil {
				t.Errorf("client: %v", err)
			}
		}
		if got := w.said(); got != "write 0 33554432, write 0 33554432" {
			t.Errorf("did %s", got)
		}
	})
}

// A write of which the end does not come is none.
func TestWriteCutOff(t *testing.T) {
	w := &slate{data: make([]byte, 32*mib)}
	s, err := nbd.NewServer([]nbd.Export{{Size: 32 * mib, Reader: w}}, nbd.Options{Memory: 32 * mib})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // each time with all of the memory
		c, done := piped(t, s)
		c.request(0, cmdWrite, 1, 0, 32*mib)
		c.send(make([]byte, 32*mib-1))
		c.Close()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "payload of a write: unexpected EOF") {
			t.Errorf("ended with %v", err)
		}
	}
	if got := w.said(); got != "" {
		t.Errorf("did %s", got)
	}
}

// A write of which the server has taken a part when it ends is done, over TLS as
// in the clear.
func TestStopWithinAWrite(t *testing.T) {
	a := newAuthority(t)
	config := a.server(t)
	for _, sealed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			w := &slate{data: make([]byte, mib)}
			s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: w}}, nbd.Options{TLS: config})
			if err != nil {
				t.Fatal(err)
			}
			near, far := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- s.ServeConn(ctx, far) }()
			c := &client{TB: t, Conn: near}
			c.bytes(18)
			c.send(uint32(3))
			if sealed {
				if err := c.startTLS(a.client()); err != nil {
					t.Fatal(err)
				}
			}
			c.choose("")
			c.request(0, cmdWrite, 1, 0, 50_000)
			c.send(patterned(0, 20_000))
			cancel()
			synctest.Wait()
			c.send(patterned(20_000, 30_000))
			if code := c.answer(1); code != 0 || !bytes.Equal(w.data[:50_000], patterned(0, 50_000)) {
				t.Errorf("over TLS %t: error %d, or other bytes than were written", sealed, code)
			}
			c.wantEnd()
			if err := <-done; err != nil {
				t.Errorf("over TLS %t: %v", sealed, err)
			}
			near.Close()
		})
	}
}

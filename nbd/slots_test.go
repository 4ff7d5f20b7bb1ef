package nbd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"caravel/nbd"
)

// A hall is a listener to which clients come from addresses that they choose.
type hall struct {
	door chan net.Conn
	shut chan struct{}
}

func (h hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.door:
		return c, nil
	case <-h.shut:
		return nil, net.ErrClosed
	}
}

func (h hall) Close() error {
	select {
	case <-h.shut:
	default:
		close(h.shut)
	}
	return nil
}

func (hall) Addr() net.Addr { return &net.UnixAddr{Name: "hall", Net: "unix"} }

// A traveller is a connection from an address.
type traveller struct {
	net.Conn
	from string
}

func (c traveller) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", c.from)
	if err != nil {
		return &net.UnixAddr{Net: "unix"}
	}
	return a
}

// enter connects a client from an address, "" being a Unix socket. The server takes
// it at once or after a while.
func (h hall) enter(t *testing.T, from string) *client {
	near, far := net.Pipe()
	h.door <- traveller{far, from}
	return &client{TB: t, Conn: near}
}

// goes does the negotiation of a client.
func (c *client) goes() *client {
	c.bytes(18)
	c.send(uint32(3))
	c.choose("")
	return c
}

// crowded is a server of a writable export with some slots, in a bubble.
func crowded(t *testing.T, conns int, test func(hall)) {
	synctest.Test(t, func(t *testing.T) {
		s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: &slate{data: make([]byte, mib)}}}, nbd.Options{Conns: conns})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		h := hall{make(chan net.Conn), make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, h) }()
		test(h)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// gone reports whether the server has ended a connection that says nothing.
func (c *client) gone() bool {
	c.SetReadDeadline(time.Now().Add(time.Nanosecond))
	defer c.SetReadDeadline(time.Time{})
	_, err := c.Read(make([]byte, 1))
	return err == io.EOF
}

// Where all slots are taken by clients that chose their export and ask for nothing,
// one of them makes way for each that comes, and who asks for something stays.
func TestIdleClientsMakeWay(t *testing.T) {
	const conns = 8
	crowded(t, conns, func(h hall) {
		var all []*client
		for range conns {
			all = append(all, h.enter(t, "").goes())
			time.Sleep(time.Second)
		}
		active := all[2]
		time.Sleep(time.Hour) // there is room: nobody need go
		for i, c := range all {
			if c.gone() {
				t.Errorf("client %d had to go without need", i)
			}
		}
		active.change(cmdFlush)
		late := []*client{h.enter(t, "")}
		start := time.Now()
		late[0].goes()
		if took := time.Since(start); took > time.Second {
			t.Errorf("the next one was served after %v", took)
		}
		late = append(late, h.enter(t, "").goes())
		for i, want := range []bool{true, true, false, false, false, false, false, false} {
			if c := all[i]; c.gone() != want {
				t.Errorf("client %d: gone is not %t", i, want)
			}
		}
		for _, c := range append(late, active) {
			c.change(cmdFlush)
		}
	})
}

// Who asked for something lately makes no way until it has been idle for a while.
func TestBusyClientsStay(t *testing.T) {
	crowded(t, 2, func(h hall) {
		a, b := h.enter(t, "").goes(), h.enter(t, "").goes()
		late := h.enter(t, "")
		for range 10 {
			time.Sleep(8 * time.Second)
			a.change(cmdFlush)
			time.Sleep(time.Millisecond)
			b.change(cmdFlush)
		}
		start := time.Now()
		late.goes()
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("served after %v", took)
		}
		if !a.gone() || b.gone() {
			t.Error("other clients are gone than the one idle longest")
		}
	})
}

// A client that does not send what it writes, or takes no reply, is not at work.
func TestStalledClientsMakeWay(t *testing.T) {
	crowded(t, 2, func(h hall) {
		writer, reader := h.enter(t, "").goes(), h.enter(t, "").goes()
		writer.request(0, cmdWrite, 1, 0, 512)
		writer.send(make([]byte, 511))
		reader.request(0, cmdRead, 1, 0, 512)
		late := h.enter(t, "").goes()
		late.change(cmdFlush)
		if !writer.gone() {
			t.Error("the one that does not send its payload is there")
		}
	})
}

// Who takes no reply is no better off for beginning one small write after the other.
func TestStalledWriterMakesWay(t *testing.T) {
	crowded(t, 2, func(h hall) {
		stalled, busy := h.enter(t, "").goes(), h.enter(t, "").goes()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			stalled.Write(requestBytes(0, cmdFlush, 1, 0, 0)) // of which it takes no reply
			for range 60 {
				if _, err := stalled.Write(requestBytes(0, cmdWrite, 2, 0, 1)); err != nil {
					return
				}
				time.Sleep(4900 * time.Millisecond)
				if _, err := stalled.Write([]byte{1}); err != nil {
					return
				}
			}
		}()
		served := make(chan struct{})
		go func() {
			for {
				busy.change(cmdFlush)
				select {
				case <-served:
					return
				case <-time.After(2 * time.Second):
				}
			}
		}()
		time.Sleep(time.Second)
		begun := time.Now()
		h.enter(t, "").goes().change(cmdFlush)
		if took := time.Since(begun); took > 15*time.Second {
			t.Errorf("the next client was served after %v", took)
		}
		close(served)
		stalled.Close()
		<-ended
		time.Sleep(3 * time.Second) // busy is through
	})
}

// The address that holds the most connections gives some up first.
func TestIdleClientsMakeWayByAddress(t *testing.T) {
	for _, tt := range []struct{ name, one, many string }{
		{"IPv4", "192.0.2.1:1", "192.0.2.2:%d"},
		{"IPv4 on a socket of IPv6", "192.0.2.1:1", "[::ffff:192.0.2.2]:%d"},
		{"IPv6, of one network", "[2001:db8:1::1]:1", "[2001:db8::%d]:1"},
		{"Unix", "192.0.2.1:1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			crowded(t, 4, func(h hall) {
				first := h.enter(t, tt.one).goes()
				time.Sleep(time.Minute)
				var many []*client
				for i := range 3 {
					from := tt.many
					if from != "" {
						from = fmt.Sprintf(tt.many, i+1)
					}
					many = append(many, h.enter(t, from).goes())
					time.Sleep(20 * time.Second)
				}
				h.enter(t, "198.51.100.1:1").goes().change(cmdFlush)
				if first.gone() || !many[0].gone() || many[1].gone() || many[2].gone() {
					t.Errorf("gone are %t, %t, %t, %t", first.gone(), many[0].gone(), many[1].gone(), many[2].gone())
				}
			})
		})
	}
}

// change has the server do something that has no data.
func (c *client) change(kind uint16) {
	c.Helper()
	c.request(0, kind, 1, 0, 0)
	if _, code, _ := c.simple(0); code != 0 {
		c.Fatalf("command %d: error %d", kind, code)
	}
}

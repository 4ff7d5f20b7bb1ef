package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serve answers each connection with content, on a real network.
func serve(t *testing.T, content []byte) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { listener.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				conn.Write(content)
				if half, ok := conn.(*net.TCPConn); ok {
					half.CloseWrite()
				}
				io.Copy(io.Discard, conn)
				conn.Close()
			})
		}
	})
	return listener.Addr().String()
}

func start(t *testing.T, target string, opt Options) *Relay {
	t.Helper()
	r, err := Start(target, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// fetch reads all that comes.
func fetch(r *Relay) ([]byte, error) {
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return io.ReadAll(conn)
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestCarries(t *testing.T) {
	content := noise(3_000_000)
	r := start(t, serve(t, content), Options{RTT: time.Millisecond})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got, err := fetch(r); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, want %d; error %v", len(got), len(content), err)
			}
		})
	}
	all.Wait()
	if c := r.Counts(); c.Connections != 8 || c.Down != 8*int64(len(content)) || c.Peak < 1 || c.Peak > 8 {
		t.Errorf("%+v", c)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if c := r.Counts(); c.Open != 0 {
		t.Errorf("after Close: %+v", c)
	}
	if _, err := fetch(r); err == nil {
		t.Error("a connection after Close")
	}
}

func TestFaults(t *testing.T) {
	content := noise(300_000)
	addr := serve(t, content)
	for _, after := range []int64{0, 1, 100_000, 299_999} {
		for _, kind := range []Kind{Reset, Truncate, Stall} {
			r := start(t, addr, Options{Faults: func(n int64) Fault {
				if n%2 == 0 {
					return Fault{Kind: kind, After: after}
				}
				return Fault{}
			}})
			if got, err := fetch(r); err != nil || !bytes.Equal(got, content) {
				t.Errorf("without a fault: %d bytes, error %v", len(got), err)
			}
			conn, err := net.Dial("tcp", r.Addr())
			if err != nil {
				if kind != Reset { // which may come that early
					t.Error(err)
				}
				continue
			}
			var got []byte
			switch kind {
			case Stall:
				got = make([]byte, after)
				_, err = io.ReadFull(conn, got)
				if err == nil {
					_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
					var timeout net.Error
					if n, late := conn.Read(make([]byte, 1)); n > 0 || !errors.As(late, &timeout) || !timeout.Timeout() {
						err = errors.Join(errors.New("something came behind it"), late)
					}
				}
			default:
				got, err = io.ReadAll(conn)
			}
			conn.Close()
			// What a reset finds unread may be lost.
			if !bytes.HasPrefix(content, got) || kind != Reset && int64(len(got)) != after || int64(len(got)) > after {
				t.Errorf("kind %d after %d: %d bytes", kind, after, len(got))
			}
			if reset := errors.Is(err, syscall.ECONNRESET); reset != (kind == Reset) || !reset && err != nil {
				t.Errorf("kind %d after %d: %v", kind, after, err)
			}
			r.Close()
		}
	}
}

// A fault on the way to the server comes after so many bytes there, is told, and leaves
// the way back as it is until then.
func TestFaultsOnTheWayUp(t *testing.T) {
	const after, sent = 1000, 300_000
	for _, kind := range []Kind{Reset, Truncate, Stall} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		struck := make(chan struct{})
		r := start(t, listener.Addr().String(), Options{Faults: func(int64) Fault {
			return Fault{Kind: kind, After: after, Up: true, Struck: func() { close(struck) }}
		}})
		client, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if _, err := server.Write(make([]byte, sent)); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(client, make([]byte, sent)); err != nil {
			t.Errorf("kind %d: the way back: %v", kind, err)
		}
		go client.Write(make([]byte, sent)) // to whom that stalls
		select {
		case <-struck:
		case <-time.After(time.Minute):
			t.Fatalf("kind %d never comes", kind)
		}
		if kind == Stall {
			r.Cut()
		}
		if n, err := io.Copy(io.Discard, server); n > after || kind == Truncate && n != after || kind != Truncate && err == nil {
			t.Errorf("kind %d: the server has %d bytes, %v", kind, n, err)
		}
		r.Close()
	}
}

func TestRefuse(t *testing.T) {
	r := start(t, serve(t, []byte("x")), Options{})
	addr := r.Addr()
	for range 2 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if err := errors.Join(r.Refuse(), r.Refuse()); err != nil {
			t.Error(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the open connection goes on")
		}
		conn.Close()
		if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want a refusal", err)
		}
		if err := errors.Join(r.Restore(), r.Restore()); err != nil {
			t.Fatal(err)
		}
		if got, err := fetch(r); err != nil || string(got) != "x" || r.Addr() != addr {
			t.Errorf("after Restore: %q, error %v, at %s", got, err, r.Addr())
		}
	}
}

func TestNoServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	r := start(t, listener.Addr().String(), Options{})
	if got, err := fetch(r); err == nil {
		t.Errorf("%q from nobody", got)
	}
}

func Example() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("twelve bytes"))
			conn.Close()
		}
	}()
	// The second connection ends in the middle.
	r, err := Start(listener.Addr().String(), Options{RTT: time.Millisecond, Faults: func(n int64) Fault {
		if n == 2 {
			return Fault{Kind: Truncate, After: 6}
		}
		return Fault{}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	for range 2 {
		got, err := fetch(r)
		fmt.Printf("%q %v\n", got, err)
	}
	c := r.Counts()
	fmt.Println(c.Connections, c.Down)
	// Output:
	// "twelve bytes" <nil>
	// "twelve" <nil>
	// 2 18
}

// BenchmarkCarry is what the relay costs, together with both ends, and how near
// it comes to its rate over 20 ms.
func BenchmarkCarry(b *testing.B) {
	for _, rate := range []int64{0, 125_000_000, 2_500_000} {
		b.Run(fmt.Sprintf("%d bytes a second", rate), func(b *testing.B) {
			content := noise(256 << 10)
			r, err := Start(endless(b, content), Options{RTT: 20 * time.Millisecond, Down: rate})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			conn, err := net.Dial("tcp", r.Addr())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			got := make([]byte, len(content))
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.ReadFull(conn, got); err != nil {
					b.Fatal(err)
				}
			}
			if !bytes.Equal(got, content) {
				b.Error("other bytes")
			}
		})
	}
}

// endless sends content again and again to the first that connects.
func endless(b *testing.B, content []byte) (addr string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		for err == nil {
			_, err = conn.Write(content)
		}
	}()
	return listener.Addr().String()
}

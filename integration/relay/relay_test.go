package relay

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// connect returns both ends of a new connection over the relay, on a clock of
// their own.
func connect(t *testing.T, r *Relay) (client, server net.Conn) {
	t.Helper()
	client, near := net.Pipe()
	far, server := net.Pipe()
	r.work.Go(func() { r.relay(near, func() (net.Conn, error) { return far, nil }) })
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// onClock runs f with a relay on a clock that stands still while anybody works.
func onClock(t *testing.T, opt Options, f func(t *testing.T, r *Relay)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(opt)
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		f(t, r)
	})
}

func near(got, want time.Duration) bool { return (got - want).Abs() <= want/50+time.Microsecond }

// The first byte there and back takes two round trips, the next ones take one.
func TestRoundTrips(t *testing.T) {
	const rtt = 20 * time.Millisecond
	onClock(t, Options{RTT: rtt}, func(t *testing.T, r *Relay) {
		began := time.Now()
		client, server := connect(t, r)
		r.work.Go(func() { io.Copy(server, server) })
		for i, want := range []time.Duration{2 * rtt, 3 * rtt, 4 * rtt} {
			if _, err := client.Write([]byte{'x'}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); !near(took, want) {
				t.Errorf("answer %d after %v, want %v", i, took, want)
			}
		}
		if c := r.Counts(); c.Up != 3 || c.Down != 3 || c.Connections != 1 || c.Open != 1 || c.Peak != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// However many connections there are, together they have the line's rate, and
// each its share.
func TestRates(t *testing.T) {
	for _, rate := range []int64{2_500_000, 125_000_000} {
		for _, conns := range []int{1, 4, 32} {
			onClock(t, Options{RTT: 20 * time.Millisecond, Down: rate}, func(t *testing.T, r *Relay) {
				share := int(rate) / conns / 4
				content := make([]byte, share)
				began := time.Now()
				var all sync.WaitGroup
				for range conns {
					client, server := connect(t, r)
					all.Go(func() {
						server.Write(content)
					})
					all.Go(func() {
						if n, err := io.ReadFull(client, make([]byte, share)); err != nil {
							t.Errorf("%d bytes: %v", n, err)
						}
						if took := time.Since(began); took < 200*time.Millisecond {
							t.Errorf("one of %d at %d a second was through after %v, the share of all takes 250ms", conns, rate, took)
						}
					})
				}
				all.Wait()
				want := 250*time.Millisecond + r.opt.RTT/2
				if took := time.Since(began); !near(took, want) {
					t.Errorf("%d connections at %d a second: %v, want %v", conns, rate, took, want)
				}
			})
		}
	}
}

// Both directions have a rate of their own.
func TestUp(t *testing.T) {
	onClock(t, Options{Up: 1_000_000}, func(t *testing.T, r *Relay) {
		client, server := connect(t, r)
		began := time.Now()
		r.work.Go(func() { client.Write(make([]byte, 500_000)) })
		if _, err := io.ReadFull(server, make([]byte, 500_000)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); !near(took, 500*time.Millisecond) {
			t.Errorf("took %v", took)
		}
		if _, err := server.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil || !near(time.Since(began), 500*time.Millisecond) {
			t.Errorf("the way back: %v, error %v", time.Since(began), err)
		}
	})
}

// A change of the rate counts at once.
func TestRateChanges(t *testing.T) {
	onClock(t, Options{Down: 100_000}, func(t *testing.T, r *Relay) {
		client, server := connect(t, r)
		r.work.Go(func() { server.Write(make([]byte, 10_000_000)) })
		for _, rate := range []int64{100_000, 10_000_000, 1_000_000, 50_000_000} {
			r.SetRates(0, rate)
			n := int(rate / 20)
			began := time.Now()
			if _, err := io.ReadFull(client, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			// Some of the former rate's pieces may be on their way.
			if took := time.Since(began); took < 35*time.Millisecond || took > 100*time.Millisecond {
				t.Errorf("%d bytes at %d a second: %v, want 50ms", n, rate, took)
			}
		}
	})
}

// A relay that comes late makes up for it.
func TestLateRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1_000_000, 0)
		f := newFlow(&link{over: make(chan struct{})}, l, nil, nil, Fault{}, nil)
		for range 100 {
			l.add(&piece{flow: f, n: 10_000, ready: time.Now()})
		}
		began := time.Now()
		for len(f.out) < 100 {
			left, wait := l.leave(time.Now())
			for _, p := range left {
				f.deliver(p)
			}
			time.Sleep(min(wait, time.Second) + 7*time.Millisecond)
		}
		for i, p := range f.out {
			if want := time.Duration(i+1) * 10 * time.Millisecond; p.due.Sub(began) != want {
				t.Fatalf("piece %d arrives after %v, want %v", i, p.due.Sub(began), want)
			}
		}
	})
}

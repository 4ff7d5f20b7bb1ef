package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/sftp"
)

// TestNoSession says what ssh says, and whether there is a point in asking again.
func TestNoSession(t *testing.T) {
	tests := []struct {
		mode  string
		want  string
		final bool
	}{
		{"refused", "has ended with exit status 255: ssh: connect to host example.com port 22: Connection refused", false},
		{"denied", "me@example.com: Permission denied (publickey).", true},
		{"unknown", "Could not resolve hostname", false},
		{"greeting", "is no SFTP", false},
		{"silent", "stalled: less than 1024 bytes came in 200ms", false},
	}
	for _, tt := range tests {
		opt := sftp.Options{}
		if tt.mode == "silent" {
			opt.Stall = 200 * time.Millisecond
		}
		s := play(t, tt.mode, opt)
		d := s.open(t)
		_, _, err := d.Open(t.Context(), "x", store.Range{})
		if err == nil || store.Final(err) != tt.final {
			t.Errorf("%s: %v, final %v, want %v", tt.mode, err, store.Final(err), tt.final)
			continue
		}
		if text := err.Error(); !strings.Contains(text, tt.want) || strings.Contains(text, "\n") || !strings.HasPrefix(text, d.Locate("x")) {
			t.Errorf("%s: %q, want %q", tt.mode, text, tt.want)
		}
		if dns := (*net.DNSError)(nil); errors.As(err, &dns) != (tt.mode == "unknown") {
			t.Errorf("%s: %v", tt.mode, err)
		}
		for _, err := range []error{
			d.Put(t.Context(), "x", strings.NewReader("x"), 1),
			d.Delete(t.Context(), "x"),
			d.Sync(t.Context()), // of nothing
		} {
			if err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", tt.mode, err)
			}
		}
	}
	s := play(t, "plain", sftp.Options{})
	s.opt.SSH = filepath.Join(s.home, "no-ssh")
	if _, err := s.open(t).Stat(t.Context(), "x"); !store.Final(err) || !strings.Contains(err.Error(), s.opt.SSH+": ") {
		t.Errorf("no program: %v", err)
	}
}

// TestDeath of sessions loses what is under way, and nothing else.
func TestDeath(t *testing.T) {
	s := play(t, "dies:300000", sftp.Options{})
	long := bytes.Repeat([]byte("0123456789"), 100_000)
	s.put(t, map[string][]byte{"long": long})
	d := s.open(t)
	for range 2 { // of its own accord, and the next one
		body, _, err := d.Open(t.Context(), "long", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err == nil || store.Final(err) || !strings.Contains(err.Error(), "has ended with exit status 3") || !bytes.HasPrefix(long, got) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		body.Close()
	}
	if got := content(t, d, "long"); got != string(long) {
		t.Errorf("%d bytes of the third session", len(got))
	}
}

// TestStall ends with an error in time, for reads, and for what waits behind them.
func TestStall(t *testing.T) {
	s := play(t, "stalls:300000", sftp.Options{Stall: 400 * time.Millisecond, Sessions: 1})
	s.put(t, map[string][]byte{"long": make([]byte, 1_000_000), "x": []byte("x")})
	d := s.open(t)
	all(20, func(i int) {
		name := []string{"long", "x"}[i%2]
		body, _, err := d.Open(t.Context(), name, store.Range{})
		if err == nil {
			_, err = io.ReadAll(body)
			body.Close()
		}
		if err != nil && (store.Final(err) || !strings.Contains(err.Error(), "stalled")) || err == nil && name == "long" {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// TestSlow servers are not stalled ones: each of many answers comes in time.
func TestSlow(t *testing.T) {
	s := play(t, "openssh", sftp.Options{Stall: time.Second, Sessions: 1})
	s.put(t, map[string][]byte{"x": make([]byte, 50_000)})
	d := s.open(t)
	all(100, func(int) {
		if got := content(t, d, "x"); len(got) != 50_000 {
			t.Errorf("%d bytes", len(got))
		}
	})
}

// TestCancel in every state: while a session begins, while an answer is waited for,
// while bytes are; and the session goes on.
func TestCancel(t *testing.T) {
	for _, mode := range []string{"silent", "stalls:20", "stalls:140", "stalls:200000"} {
		s := play(t, mode, sftp.Options{})
		s.put(t, map[string][]byte{"long": make([]byte, 1_000_000)})
		d := s.open(t)
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(300*time.Millisecond, func() { cancel(gone) })
		body, _, err := d.Open(ctx, "long", store.Range{})
		if err == nil {
			_, err = io.ReadAll(body)
			body.Close()
		}
		if !errors.Is(err, gone) {
			t.Errorf("%s: read: %v", mode, err)
		}
		if err := d.Put(ctx, "new", strings.NewReader("new"), 3); !errors.Is(err, gone) {
			t.Errorf("%s: put: %v", mode, err)
		}
		for _, err := range d.List(ctx, "") {
			if !errors.Is(err, gone) {
				t.Errorf("%s: list: %v", mode, err)
			}
		}
		timer.Stop()
		cancel(nil)
	}
	s := play(t, "openssh", sftp.Options{})
	s.put(t, map[string][]byte{"long": make([]byte, 1_000_000)})
	d := s.open(t)
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		body, _, err := d.Open(ctx, "long", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		go cancel()
		if _, err := io.CopyN(io.Discard, body, int64(i)*20_000); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		body.Close()
	}
	if got := content(t, d, "long"); len(got) != 1_000_000 || calls(s.home) != 1 {
		t.Errorf("%d bytes, after %d sessions", len(got), calls(s.home))
	}
}

// TestIdle sessions end, and another one begins when it is needed.
func TestIdle(t *testing.T) {
	s := play(t, "openssh", sftp.Options{Idle: 20 * time.Millisecond})
	s.put(t, map[string][]byte{"x": []byte("here")})
	d := s.open(t)
	for began := time.Now(); calls(s.home) < 3; {
		if got := content(t, d, "x"); got != "here" {
			t.Fatalf("%q", got)
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("sessions do not end")
		}
		<-time.After(40 * time.Millisecond) // what is waited for is that nothing happens
	}
}

// TestClose ends what is under way.
func TestClose(t *testing.T) {
	s := play(t, "stalls:200000", sftp.Options{})
	s.put(t, map[string][]byte{"long": make([]byte, 1_000_000)})
	d := s.open(t)
	body, _, err := d.Open(t.Context(), "long", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := s.opt.Hosts.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(body); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("read of what was under way: %v", err)
	}
	if _, err := d.Stat(t.Context(), "long"); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("stat after the end: %v", err)
	}
}

// TestChanged files end in an error: one that shrinks under its reader, and one that
// is another one by now.
func TestChanged(t *testing.T) {
	s := play(t, "openssh", sftp.Options{})
	s.put(t, map[string][]byte{"long": make([]byte, 3_000_000)})
	d := s.open(t)
	body, info, err := d.Open(t.Context(), "long", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := os.Truncate(filepath.Join(s.dir, "long"), 1_000_000); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); len(got) > 2_000_000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, _, err := d.Open(t.Context(), "long", store.Range{Tag: info.Tag}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("a later version: %v", err)
	}
}

// TestPutLeavesNothing that has a name of its own when its source fails, or its
// writer leaves in the middle.
func TestPutLeavesNothing(t *testing.T) {
	s := play(t, "openssh", sftp.Options{})
	s.put(t, map[string][]byte{"x": []byte("former")})
	d := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := io.MultiReader(bytes.NewReader(make([]byte, 600_000)), onRead(cancel))
	if err := d.Put(ctx, "x", r, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := s.opt.Hosts.Close(); err != nil { // which waits for what nobody waited for
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil || len(names) != 1 {
		for _, n := range names {
			if !store.Unfinished(n) && filepath.Base(n) != "x" {
				t.Errorf("left %s behind", n)
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "x")); string(b) != "former" {
		t.Errorf("%q, %v", b, err)
	}
}

type onRead func()

func (f onRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

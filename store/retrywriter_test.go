package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/storetest"
)

// A moodyWriter is a moody store that takes chunks, too.
type moodyWriter struct {
	moody
	to store.Writer
}

func newMoodyWriter(t *testing.T, errs ...error) *moodyWriter {
	t.Helper()
	w, err := store.Writable(storetest.NewMemory(nil), store.Form{Compression: store.None})
	if err != nil {
		t.Fatal(err)
	}
	return &moodyWriter{moody{Store: w, errs: errs}, w}
}

func (m *moodyWriter) Put(ctx context.Context, c *store.Chunk) error {
	if err := m.next(); err != nil {
		return err
	}
	return m.to.Put(ctx, c)
}

func (m *moodyWriter) Sync(context.Context) error { return m.next() }

func TestRetryWriterSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Writer { return store.RetryWriter(newMoodyWriter(t).to, time.Minute, nil) })
}

func TestRetryWriter(t *testing.T) {
	reset := errors.New("connection reset")
	busy := func(after time.Duration) error { return &store.BusyError{After: after, Err: errors.New("503 busy")} }
	tests := []struct {
		name  string
		errs  []error
		asked int
		least time.Duration
		want  string // in the error
		said  string // in the log
	}{
		{"passes", []error{reset, reset}, 3, 0, "", ""},
		{"patient", []error{busy(20 * time.Second), busy(0)}, 3, 20 * time.Second, "", "503 busy"},
		{"not so patient", []error{busy(2 * time.Minute)}, 1, 0, "503 busy", ""},
		{"refused is final", []error{store.ErrRefused}, 1, 0, store.ErrRefused.Error(), ""},
		{"a mistyped name", []error{&net.DNSError{Err: "no such host", IsNotFound: true}}, 1, 0, "no such host", ""},
		{"for ever so long", []error{reset, reset, reset, reset, reset, reset, reset}, 8, 2 * time.Second, "", "connection reset"},
	}
	plain := []byte("some chunk")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, log := newMoodyWriter(t, tt.errs...), bytes.Buffer{}
				w := store.RetryWriter(m, time.Minute, slog.New(slog.NewTextHandler(&log, nil)))
				c := store.NewChunk(storetest.Want(plain).ID, chunker.SHA512_256, plain, nil)
				defer c.Release()
				began := time.Now()
				err := w.Put(t.Context(), c)
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if took := time.Since(began); m.asked != tt.asked || took < tt.least || took > time.Minute {
					t.Errorf("asked %d times in %v", m.asked, took)
				}
				if text := log.String(); strings.Count(text, "\n") > 1 || !strings.Contains(text, tt.said) || tt.said == "" && text != "" {
					t.Errorf("says %q, want %q", text, tt.said)
				}
				if err != nil {
					return
				}
				gives(t, store.Verify(w), plain)
				m.asked, m.errs = 0, []error{reset}
				if err := w.Sync(t.Context()); err != nil || m.asked != 2 {
					t.Errorf("Sync: asked %d times, %v", m.asked, err)
				}
			})
		})
	}
}

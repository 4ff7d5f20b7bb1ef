package farside_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"caravel/castp"
	"caravel/chunker"
	"caravel/farside"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
	"caravel/store/storetest"
)

// said is what somebody says who does not listen.
func said(t testing.TB, what ...func(w *castp.Writer) error) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := castp.NewWriter(&b)
	for _, say := range what {
		if err := say(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func hello(f castp.Flags) func(w *castp.Writer) error {
	return func(w *castp.Writer) error { return w.Hello(f) }
}

// answers are the types of the messages of an answer, with what an ABORT says.
func answers(t testing.TB, b *bytes.Buffer) string {
	t.Helper()
	var types []string
	for r := castp.NewReader(b); ; {
		m, err := r.Next()
		if err == io.EOF {
			return strings.Join(types, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, strings.TrimSpace(m.Type.String()+" "+m.Text))
	}
}

// indexOf is the index of one chunk.
func indexOf(t testing.TB, plain []byte) []byte {
	t.Helper()
	x := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams())
	if err := x.Append(storetest.Want(plain).ID, len(plain)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := x.Index().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An index gets its place when its chunks are there, and only the right ones.
func TestPush(t *testing.T) {
	plain := storetest.Plains()[1]
	id, file := storetest.Want(plain).ID, indexOf(t, plain)
	all := castp.PushChunks | castp.PushIndex | castp.PushIndexChunks
	send := func(w *castp.Writer) error { return w.File(castp.Index, file) }
	end := func(w *castp.Writer) error { return w.Bare(castp.IndexEOF) }
	give := func(b []byte) func(w *castp.Writer) error {
		return func(w *castp.Writer) error { return w.Chunk(id, false, b) }
	}
	missing := func(w *castp.Writer) error { return w.Missing(id) }
	tests := []struct {
		name    string
		says    []func(w *castp.Writer) error
		want    string // in the answer
		placed  bool
		chunked bool
	}{
		{"whole", []func(w *castp.Writer) error{hello(all), send, give(plain), end}, "HELLO REQUEST GOODBYE", true, true},
		{"left", []func(w *castp.Writer) error{hello(all), send, give(plain)}, "HELLO REQUEST", false, true},
		{"forged", []func(w *castp.Writer) error{hello(all), send, give([]byte("forged"))}, "HELLO REQUEST ABORT", false, false},
		{"missing", []func(w *castp.Writer) error{hello(all), send, missing, end}, "which is nowhere", false, false},
		{"no index", []func(w *castp.Writer) error{hello(all), func(w *castp.Writer) error { return w.File(castp.Index, make([]byte, 200)) }}, "not an index", false, false},
		{"bytes behind it", []func(w *castp.Writer) error{hello(all), send, give(plain), send, end}, "ABORT", false, true},
		{"short", []func(w *castp.Writer) error{hello(all), end}, "truncated", false, false},
		{"an archive", []func(w *castp.Writer) error{hello(all), func(w *castp.Writer) error { return w.Bare(castp.ArchiveEOF) }}, "ARCHIVE_EOF was not asked for", false, false},
		{"who wants to read", []func(w *castp.Writer) error{hello(castp.PullChunks)}, "wants a store to read", false, false},
		{"nothing", nil, "HELLO", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := storetest.NewMemory(nil)
			w, err := store.Writable(m, store.Form{})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			var placed []byte
			put := func(_ context.Context, r io.Reader) error {
				b, err := io.ReadAll(r)
				if err == nil {
					placed = b
				}
				return err
			}
			err = farside.Push{Store: w, Index: put}.Serve(t.Context(), said(t, tt.says...), &out)
			if (err == nil) != tt.placed || tt.placed != bytes.Equal(placed, file) {
				t.Errorf("error %v, placed %d bytes", err, len(placed))
			}
			if got := answers(t, &out); !strings.Contains(got, tt.want) {
				t.Errorf("answered %q, want %q in it", got, tt.want)
			}
			if got := len(m.Objects()) > 0; got != tt.chunked {
				t.Errorf("chunks: %v, want %v", got, tt.chunked)
			}
		})
	}
}

func TestPull(t *testing.T) {
	plain := storetest.Plains()[1]
	id := storetest.Want(plain).ID
	chunks := store.Chunks(storetest.NewMemory(storetest.Objects(t, store.Form{}, plain)), store.Form{})
	p := farside.Pull{Stores: []store.Store{chunks}, Index: bytes.NewReader([]byte("any bytes"))}
	in, say := io.Pipe()
	hear, out := io.Pipe()
	done := make(chan error)
	go func() { done <- p.Serve(t.Context(), in, out) }()
	go io.Copy(say, said(t, hello(castp.PullChunks|castp.PullIndex), func(w *castp.Writer) error {
		return w.Request(false, id, chunker.ID{})
	}))
	got := map[castp.Type]int{}
	r := castp.NewReader(hear)
	for range 5 {
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got[m.Type]++
	}
	say.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, typ := range []castp.Type{castp.Hello, castp.Index, castp.IndexEOF, castp.Chunk, castp.Missing} {
		if got[typ] != 1 {
			t.Errorf("%d of %v", got[typ], typ)
		}
	}
}

// Whoever is told to end does so, whatever the other side does.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	in, _ := io.Pipe()
	why := errors.New("interrupted")
	cancel(why)
	err := farside.Pull{Index: strings.NewReader("")}.Serve(ctx, in, io.Discard)
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// Whatever is said, nothing that does not match its name is stored.
func FuzzPush(f *testing.F) {
	plain := []byte("plain")
	all := castp.PushChunks | castp.PushIndex | castp.PushIndexChunks
	f.Add(said(f, hello(all), func(w *castp.Writer) error { return w.File(castp.Index, indexOf(f, plain)) },
		func(w *castp.Writer) error { return w.Chunk(storetest.Want(plain).ID, false, plain) },
		func(w *castp.Writer) error { return w.Bare(castp.IndexEOF) }).Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		m := storetest.NewMemory(nil)
		w, err := store.Writable(m, store.Form{Compression: store.None})
		if err != nil {
			t.Fatal(err)
		}
		put := func(_ context.Context, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }
		_ = farside.Push{Store: w, Index: put}.Serve(t.Context(), bytes.NewReader(in), io.Discard)
		for name, b := range m.Objects() {
			want := store.Form{Compression: store.None}
			if name != want.Name(chunker.SHA512_256.Sum(b)) && name != want.Name(chunker.SHA256.Sum(b)) {
				t.Fatalf("%s holds %x", name, b)
			}
		}
	})
}

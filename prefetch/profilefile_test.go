package prefetch_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/prefetch"
)

// profileFile is a small profile, of two runs in place and one without.
func profileFile(t testing.TB) []byte {
	t.Helper()
	p := touched(letters(t, "abcdef"), 3, 4, 0)
	p.Merge(touched(letters(t, "xyz"), 1, 2))
	var b bytes.Buffer
	if n, err := p.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	return b.Bytes()
}

// The file is what docs/formats.md says, byte for byte.
func TestProfileFile(t *testing.T) {
	x := letters(t, "abcdef")
	sum := x.Sum()
	zeros := strings.Repeat("00", 31)
	want := hex.EncodeToString([]byte("caravel profile\n")) +
		"0100000000000000" + hex.EncodeToString(sum[:]) + "0500000000000000" +
		"2601000000000000" + "0200000000000000" + // at a+b+c, of two chunks
		"64000000" + "64" + zeros + "65000000" + "65" + zeros +
		"0000000000000000" + "0100000000000000" +
		"61000000" + "61" + zeros +
		"ffffffffffffffff" + "0200000000000000" +
		"79000000" + "79" + zeros + "7a000000" + "7a" + zeros
	if got := hex.EncodeToString(profileFile(t)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestReadProfile(t *testing.T) {
	b := profileFile(t)
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(b), "in bytes": iotest.OneByteReader(bytes.NewReader(b))} {
		p, err := prefetch.ReadProfile(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := spell(p); got != "deaYZ" || p.Runs() != 3 || p.Index != letters(t, "abcdef").Sum() {
			t.Errorf("%s: %s in %d runs", name, got, p.Runs())
		}
	}
}

func TestReadProfileRejects(t *testing.T) {
	set := func(at int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[at:], v)
			return b
		}
	}
	size := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at:], v)
			return b
		}
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	const first, second, third = 64, 64 + 16 + 72, 64 + 16 + 72 + 16 + 36
	tests := []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"nothing", cut(0), "profile: offset 0: truncated in the header"},
		{"another file", func([]byte) []byte { return []byte("#!/bin/sh\nexit 0\n\n\n\n\n") }, "profile: offset 0: not a profile"},
		{"cut header", cut(63), "profile: offset 63: truncated in the header"},
		{"another version", set(16, 2), "profile: offset 16: version 2, not 1"},
		{"too many chunks", set(56, 1<<20+1), "profile: offset 56: 1048577 chunks, above the limit of 1048576"},
		{"many chunks that are not there", set(56, 1<<20), "profile: offset 292: truncated in the head of a run"},
		{"fewer chunks than there are", set(56, 2), "profile: offset 152: bytes after the last chunk"},
		{"no runs", cut(64), "profile: offset 64: truncated in the head of a run"},
		{"cut head of a run", cut(first + 15), "profile: offset 79: truncated in the head of a run"},
		{"cut run", cut(first + 16 + 36 + 1), "profile: offset 117: truncated in the run"},
		{"run of none", set(first+8, 0), "profile: offset 72: run of 0 chunks, not of 1 to 5"},
		{"run of too many", set(second+8, 4), "profile: offset 160: run of 4 chunks, not of 1 to 3"},
		{"run of far too many", set(first+8, 1<<63), "profile: offset 72: run of 9223372036854775808 chunks, not of 1 to 5"},
		{"run nowhere", set(first, 1<<63), "profile: offset 64: run at 9223372036854775808, beyond 2^63-1"},
		{"run beyond the end", set(first, 1<<63-150), "profile: offset 116: chunk of 101 bytes at 9223372036854775758 ends beyond 2^63-1"},
		{"runs that are one", set(second, 0x126+0x64+0x65), "profile: offset 152: run goes on where the one before it ends"},
		{"runs without a place that are one", set(second, 1<<64-1), "profile: offset 204: run goes on where the one before it ends"},
		{"chunk of nothing", size(second+16, 0), "profile: offset 168: chunk of 0 bytes, not of 1 to 134217728"},
		{"chunk too large", size(third+16, 128<<20+1), "profile: offset 220: chunk of 134217729 bytes, not of 1 to 134217728"},
		{"more", func(b []byte) []byte { return append(b, 0) }, "profile: offset 292: bytes after the last chunk"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := prefetch.ReadProfile(bytes.NewReader(tt.spoil(profileFile(t))))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, %v, want %s", p, err, tt.want)
			}
		})
	}
}

func TestReadProfileFails(t *testing.T) {
	b := profileFile(t)
	for _, n := range []int{0, 30, 64, 100, len(b)} {
		broken := errors.New("broken link")
		_, err := prefetch.ReadProfile(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestWriteProfileFails(t *testing.T) {
	p := touched(letters(t, "abc"), 0)
	if _, err := p.WriteTo(&shortWriter{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

type shortWriter struct{}

func (*shortWriter) Write(b []byte) (int, error) { return len(b) / 2, nil }

// What is accepted is written back byte for byte, holds what it says, and wants
// each row of any index once.
func FuzzReadProfile(f *testing.F) {
	f.Add(profileFile(f))
	f.Add(profileFile(f)[:64+16+36])
	x := letters(f, "abcdefxyabc")
	for _, p := range []*prefetch.Profile{touched(x), touched(x, 0, 8, 1, 2, 3), touched(letters(f, "yxba"), 3, 2, 1, 0)} {
		var b bytes.Buffer
		if _, err := p.WriteTo(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := prefetch.ReadProfile(bytes.NewReader(b))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "profile: offset ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
			return
		}
		var back bytes.Buffer
		if _, err := p.WriteTo(&back); err != nil || !bytes.Equal(back.Bytes(), b) {
			t.Fatalf("written back as %x, %v", back.Bytes(), err)
		}
		if p.Runs() > p.Len() || len(b) != 64+16*p.Runs()+36*p.Len() {
			t.Errorf("%d runs, %d chunks in %d bytes", p.Runs(), p.Len(), len(b))
		}
		rows := p.Rows(x)
		if slices.Sort(rows); len(rows) > p.Len() || len(slices.Compact(rows)) != len(rows) {
			t.Errorf("rows %v", rows)
		}
		for _, row := range rows {
			if !slices.Contains(ids(p), x.Chunk(row).ID) {
				t.Errorf("row %d was not asked for", row)
			}
		}
	})
}

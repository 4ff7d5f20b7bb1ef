package catar_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/catar"
	"caravel/feature"
)

// stripped is a bare archive, of one that comes in pieces of n bytes.
func stripped(archive []byte, n int) ([]byte, error) {
	var b bytes.Buffer
	s := catar.NewStripper(&b)
	for len(archive) > 0 {
		p := archive[:min(n, len(archive))]
		if _, err := s.Write(p); err != nil {
			return nil, err
		}
		archive = archive[len(p):]
	}
	return b.Bytes(), nil
}

// nodesOf decodes an archive, and says where its tables lie.
func nodesOf(d *catar.Decoder) (nodes []catar.Node, err error) {
	for {
		n, err := d.Next()
		if err == io.EOF {
			return nodes, nil
		}
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, *n)
	}
}

// A tables keeps where tables are.
type tables []catar.Span

func (t *tables) closed(goodbye, end int64) error {
	*t = append(*t, catar.Span{Start: goodbye, End: end})
	return nil
}

func bareDecoder(bare []byte, size int, t *tables) *catar.Decoder {
	return catar.NewDecoder(iotest.HalfReader(bytes.NewReader(bare)), catar.DecoderOptions{Bare: int64(size), Closed: t.closed})
}

// TestBare decodes all vectors twice: as they are, and without payloads and
// tables.
func TestBare(t *testing.T) {
	all := vectors(t)
	for _, name := range []string{"special", "unsorted", "collision"} {
		all[name] = read(t, "testdata/desync/"+name+".catar")
	}
	for name, archive := range all {
		t.Run(name, func(t *testing.T) {
			bare, err := stripped(archive, len(archive))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{1, 7, 16, 17, 1000} {
				if got, err := stripped(archive, n); err != nil || !bytes.Equal(got, bare) {
					t.Errorf("in pieces of %d: %d bytes, not %d; %v", n, len(got), len(bare), err)
				}
			}
			var wantTables, gotTables tables
			d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{Closed: wantTables.closed})
			want, err := nodesOf(d)
			if err != nil {
				t.Fatal(err)
			}
			got, err := nodesOf(bareDecoder(bare, len(archive), &gotTables))
			if err != nil || !reflect.DeepEqual(got, want) || !slices.Equal(gotTables, wantTables) {
				t.Fatalf("%d nodes, not %d; %v", len(got), len(want), err)
			}
			if d.Flags() != feature.Desync {
				if b := assembled(archive, want, wantTables); !bytes.Equal(b, bare) {
					t.Errorf("put together again: %d bytes, not %d", len(b), len(bare))
				}
			}
		})
	}
}

// assembled is the bare archive, out of what was decoded and of the records
// between.
func assembled(archive []byte, nodes []catar.Node, closed tables) (b []byte) {
	flags := nodesFlags(archive)
	at := int64(0)
	table := func() {
		n := (closed[0].End - closed[0].Start - catar.TableSize(0)) / (catar.TableSize(1) - catar.TableSize(0))
		b = catar.AppendBareTable(b, int(n))
		at, closed = closed[0].End, closed[1:]
	}
	for i := range nodes {
		n := &nodes[i]
		for at < n.Start {
			table()
		}
		b = catar.AppendBare(b, n.Name, &n.Entry, n.More(archive[n.Start:n.Body]), flags)
		at = n.Body + n.Size
	}
	for len(closed) > 0 {
		table()
	}
	return b
}

func nodesFlags(archive []byte) feature.Flags {
	d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
	_, _ = d.Next()
	return d.Flags()
}

// TestBareMalformed refuses bare what is refused whole, but for what is wrong in
// that which is left out.
func TestBareMalformed(t *testing.T) {
	files, err := filepath.Glob("testdata/malformed/*.catar")
	if err != nil || len(files) < 70 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".catar")
		archive := read(t, file)
		whole := refused(bytes.NewReader(archive))
		bare, err := stripped(archive, 100)
		if err == nil {
			_, err = nodesOf(bareDecoder(bare, len(archive), new(tables)))
		}
		leftOut := strings.HasPrefix(name, "goodbye-wrong-")
		if (err != nil) != (whole != nil && !leftOut) {
			t.Errorf("%s: %v, whole: %v", name, err, whole)
		}
	}
}

func TestBareRejects(t *testing.T) {
	archive := read(t, "testdata/small.catar")
	bare, err := stripped(archive, 100)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		bare []byte
		size int
		want string
	}{
		{"a longer archive", bare, len(archive) + 1, fmt.Sprintf("offset %d: the root ends, in an archive of %d bytes", len(archive), len(archive)+1)},
		{"a shorter archive", bare, len(archive) - 1, "bytes that were left out, in an archive of"},
		{"something behind", append(slices.Clone(bare), 0), len(archive), fmt.Sprintf("offset %d: bytes after the end", len(archive))},
		{"cut", bare[:len(bare)-1], len(archive), "truncated in the header"},
		{"cut between records", bare[:len(bare)-16], len(archive), "before its GOODBYE"},
		{"a whole archive", archive, len(archive), "catar: offset"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := nodesOf(bareDecoder(tt.bare, tt.size, new(tables)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestBarePayload gives no payload away that is not there.
func TestBarePayload(t *testing.T) {
	archive := sampleArchive(t, sampleFlags, 0)
	bare, err := stripped(archive, 1000)
	if err != nil {
		t.Fatal(err)
	}
	d := bareDecoder(bare, len(archive), new(tables))
	for n, err := d.Next(); n == nil || !n.IsRegular(); n, err = d.Next() {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := d.WriteTo(io.Discard); n != 0 || err == nil {
		t.Errorf("written %d, %v", n, err)
	}
	if _, err := nodesOf(d); err != nil { // the others are there
		t.Error(err)
	}
}

func TestStripperRejects(t *testing.T) {
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"no record": {make([]byte, 16), "offset 0: no record has the type"},
		"later":     {append(record(0x6dbb6ebcb3161f0b, "a\x00"), make([]byte, 16)...), "offset 18: no record"},
		"too long":  {appendU64(nil, math.MaxUint64, 0x8b9e1d93d6dcffc9), "offset 0: PAYLOAD of 18446744073709551615 bytes, which ends beyond"},
	} {
		s := catar.NewStripper(io.Discard)
		n, err := s.Write(tt.b)
		if err == nil || !strings.Contains(err.Error(), tt.want) || n > len(tt.b) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if n, again := s.Write([]byte{0}); n != 0 || again != err {
			t.Errorf("%s: then %d, %v", name, n, again)
		}
	}
	s := catar.NewStripper(failing{})
	if _, err := s.Write(record(0x6dbb6ebcb3161f0b, "a\x00")); err != os.ErrClosed {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

// FuzzBare: what is accepted bare is what is left of an archive, which is found
// by writing one with payloads of zeros. (Those of desync's the encoder does not
// write as they were.)
func FuzzBare(f *testing.F) {
	for _, archive := range seeds(f) {
		if bare, err := stripped(archive, 100); err == nil {
			f.Add(bare, int64(len(archive)))
		}
	}
	f.Fuzz(func(t *testing.T, bare []byte, size int64) {
		if size <= 0 || size > 1<<20 {
			return
		}
		d := bareDecoder(bare, int(size), new(tables))
		var out bytes.Buffer
		var e *catar.Encoder
		open := 0
		for {
			n, err := d.Next()
			if err != nil && err != io.EOF || n != nil && n.Size > size || d.Flags() == feature.Desync {
				return
			}
			depth := 0
			if n != nil {
				depth = n.Depth
			}
			for ; open > depth; open-- {
				must(t, e.End())
			}
			if n == nil {
				break
			}
			if e == nil {
				if e, err = catar.NewEncoder(&out, d.Flags()); err != nil {
					t.Fatal(err)
				}
			}
			must(t, e.Begin(n.Name, &n.Entry))
			if n.IsDir() {
				open++
			}
			_, err = io.CopyN(e, zeros{}, n.Size)
			must(t, err)
		}
		if err := refused(bytes.NewReader(out.Bytes())); err != nil || int64(out.Len()) != size {
			t.Fatalf("an archive of %d bytes, not %d: %v", out.Len(), size, err)
		}
		if again, err := stripped(out.Bytes(), 1000); err != nil || !bytes.Equal(again, bare) {
			t.Fatalf("%d bytes, not %d: %v", len(again), len(bare), err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

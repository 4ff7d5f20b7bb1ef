package tree_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"caravel/catar"
	"caravel/catar/tree"
)

const headSize = 104 // of a sidecar

// sealed is the sidecar file with a body, as docs/formats.md describes it.
func sealed(body []byte, size int) []byte {
	b := append([]byte("caravel sidecar\n"), make([]byte, headSize-16)...)
	binary.LittleEndian.PutUint64(b[16:], 1)
	binary.LittleEndian.PutUint64(b[56:], uint64(size))
	binary.LittleEndian.PutUint64(b[64:], uint64(len(body)))
	sum := sha512.Sum512_256(body)
	copy(b[72:], sum[:])
	return append(b, body...)
}

var encoder, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))

func compressed(bare []byte) []byte { return encoder.EncodeAll(bare, nil) }

// unsealed is the bare archive in a sidecar.
func unsealed(t testing.TB, file []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(file[headSize:]))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The file is what docs/formats.md says.
func TestSidecarFile(t *testing.T) {
	b := unpack(t, "tree.default.catar")
	index := sha512.Sum512_256([]byte("an index"))
	s := tree.NewSkimmer()
	s.Write(b)
	file, err := s.Sidecar(index)
	if err != nil {
		t.Fatal(err)
	}
	want := sealed(file[headSize:], len(b))
	copy(want[24:], index[:])
	if !bytes.Equal(file, want) {
		t.Errorf("header %x, not %x", file[:headSize], want[:headSize])
	}
	var bare bytes.Buffer
	if _, err := catar.NewStripper(&bare).Write(b); err != nil || !bytes.Equal(unsealed(t, file), bare.Bytes()) {
		t.Errorf("not the archive without payloads and tables; %v", err)
	}
	got, err := tree.ReadSidecar(iotest.OneByteReader(bytes.NewReader(file)), index, int64(len(b)))
	n, wrong := decoded(b)
	if err != nil || wrong != nil || got.Size() != int64(len(b)) || got.Len() != n {
		t.Errorf("%d entries, not %d; %v, %v", got.Len(), n, err, wrong)
	}
}

func TestReadSidecarRejects(t *testing.T) {
	b := unpack(t, "small.catar")
	good := skimmed(t, b)
	set := func(at int, v byte) func([]byte) []byte {
		return func(file []byte) []byte { file[at] ^= v; return file }
	}
	again := func(change func(bare []byte) []byte) func([]byte) []byte {
		return func(file []byte) []byte { return sealed(compressed(change(unsealed(t, file))), len(b)) }
	}
	tests := []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"nothing", func([]byte) []byte { return nil }, "tree: sidecar: offset 0: truncated"},
		{"cut in the header", func(f []byte) []byte { return f[:50] }, "offset 50: truncated"},
		{"only a header", func(f []byte) []byte { return f[:headSize] }, "offset 104: truncated"},
		{"cut", func(f []byte) []byte { return f[:len(f)-1] }, fmt.Sprintf("offset %d: truncated", len(good)-1)},
		{"something behind", func(f []byte) []byte { return append(f, 0) }, fmt.Sprintf("offset %d: bytes behind its end", len(good))},
		{"an archive", func([]byte) []byte { return b }, "offset 0: not a sidecar"},
		{"magic", set(15, 1), "offset 0: not a sidecar"},
		{"version", set(16, 2), "offset 16: version 3, not 1"},
		{"another index", set(24, 1), "offset 24: of another index: 01"},
		{"another archive", set(56, 1), "offset 56: of an archive of 21614 bytes, not 21615"},
		{"longer", func(f []byte) []byte { f[64]++; return f }, fmt.Sprintf("offset %d: truncated", len(good))},
		{"shorter", func(f []byte) []byte { f[64]--; return f }, "bytes behind its end"},
		{"huge length", set(71, 0x80), "bytes, more than 268435456"},
		{"digest", set(72, 1), "damaged: its digest is"},
		{"flipped", set(len(good)-1, 1), "damaged: its digest is"},
		{"flipped at first", set(headSize, 1), "damaged: its digest is"},

		// From here on the digest is right.
		{"no zstd", func([]byte) []byte { return sealed([]byte("text"), len(b)) }, "damaged: "},
		{"no body", func([]byte) []byte { return sealed(nil, len(b)) }, "sidecar: catar: offset 0: truncated"},
		{"zstd cut", func(f []byte) []byte { return sealed(f[headSize:len(f)-3], len(b)) }, "damaged: "},
		{"too large a window", func(f []byte) []byte {
			var body bytes.Buffer
			z, err := zstd.NewWriter(&body, zstd.WithWindowSize(8<<20))
			if err == nil {
				_, err = z.Write(make([]byte, 9<<20))
			}
			if err = errors.Join(err, z.Close()); err != nil {
				t.Fatal(err)
			}
			return sealed(body.Bytes(), len(b))
		}, "damaged: window size exceeded"},
		{"not bare", again(func([]byte) []byte { return b }), "sidecar: catar: offset"},
		{"bare and cut", again(func(bare []byte) []byte { return bare[:len(bare)/2] }), "truncated"},
		{"bare and one record too many", again(func(bare []byte) []byte { return append(bare, bare[len(bare)-16:]...) }), "bytes after the end of the root"},
		{"longer archive", func(f []byte) []byte {
			f = sealed(f[headSize:], len(b)+24)
			return f
		}, "of an archive of 21639 bytes, not 21615"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tree.ReadSidecar(bytes.NewReader(tt.spoil(bytes.Clone(good))), [32]byte{}, int64(len(b)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if stale := errors.Is(err, tree.ErrStale); stale != (tt.name == "another index") {
				t.Errorf("stale: %v, %v", stale, err)
			}
		})
	}
	broken := iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(good)))
	if _, err := tree.ReadSidecar(broken, [32]byte{}, int64(len(b))); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	for _, size := range []int64{-1, 0, 1<<63 - 1} {
		for _, body := range [][]byte{good[headSize:], compressed(b)} {
			if _, err := tree.ReadSidecar(bytes.NewReader(sealed(body, int(size))), [32]byte{}, size); err == nil {
				t.Errorf("accepted of %d bytes", size)
			}
		}
	}
}

// recordsOf are where the records of a bare archive begin.
func recordsOf(bare []byte) (at []int) {
	for off := 0; off < len(bare); {
		at = append(at, off)
		size := 16
		if typ := binary.LittleEndian.Uint64(bare[off+8:]); typ != payloadRecord && typ != goodbyeRecord {
			size = int(binary.LittleEndian.Uint64(bare[off:]))
		}
		off += size
	}
	return append(at, len(bare))
}

const (
	payloadRecord = 0x8b9e1d93d6dcffc9
	goodbyeRecord = 0xdfd35c5e8327c403
)

// Records of each type are refused that are too short or too long, of a type
// that none has, missing, repeated, or in the wrong place.
func TestHostileRecords(t *testing.T) {
	archives := map[string][]byte{
		"tree": unpack(t, "tree.default.catar"), "sorts": sorts(t, nil), "attributes": attributes(t),
	}
	types := make(map[uint64]int)
	for name, archive := range archives {
		bare := unsealed(t, skimmed(t, archive))
		at := recordsOf(bare)
		refused := func(what string, i int, changed []byte) {
			t.Helper()
			file := sealed(compressed(changed), len(archive))
			if _, err := tree.ReadSidecar(bytes.NewReader(file), [32]byte{}, int64(len(archive))); err == nil ||
				!strings.HasPrefix(err.Error(), "sidecar: catar: offset ") {
				t.Errorf("%s: record %d of type %#x: %s: %v", name, i, binary.LittleEndian.Uint64(bare[at[i]+8:]), what, err)
			}
		}
		for i := range len(at) - 1 {
			typ := binary.LittleEndian.Uint64(bare[at[i]+8:])
			if types[typ]++; types[typ] > 3 {
				continue
			}
			put := func(field int, v uint64) []byte {
				b := bytes.Clone(bare)
				binary.LittleEndian.PutUint64(b[at[i]+field:], v)
				return b
			}
			refused("too short", i, put(0, 15))
			refused("of no bytes", i, put(0, 0))
			refused("too long", i, put(0, 1<<63))
			refused("a bit longer", i, put(0, binary.LittleEndian.Uint64(bare[at[i]:])+1))
			refused("of no type", i, put(8, 12345))
			refused("missing", i, append(bytes.Clone(bare[:at[i]]), bare[at[i+1]:]...))
			refused("repeated", i, append(bytes.Clone(bare[:at[i+1]]), bare[at[i]:]...))
			refused("a cut", i, bare[:at[i]+8])
		}
	}
	if len(types) != 18 {
		t.Errorf("only %d types of records", len(types))
	}
}

// A file that unpacks to more than its length allows is given up in time,
// whatever it is.
func TestSidecarBomb(t *testing.T) {
	var body bytes.Buffer
	z, err := zstd.NewWriter(&body, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	archive := catar.AppendBare(nil, "", &catar.Entry{Mode: catar.ModeDir | 0o755}, nil, flags)
	size, value := len(archive), strings.Repeat("a", 60_000)
	if _, err := z.Write(archive); err != nil {
		t.Fatal(err)
	}
	more := binary.LittleEndian.AppendUint64(nil, uint64(16+7+len(value)))
	more = binary.LittleEndian.AppendUint64(more, 0xb8157091f80bc486)
	more = append(append(more, "user.a\x00"...), value...)
	n := 0
	for ; size < 100<<20; n++ {
		b := catar.AppendBare(nil, fmt.Sprintf("%08d", n), &catar.Entry{Mode: catar.ModeRegular | 0o644}, more, flags)
		size += len(b)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	size += int(catar.TableSize(n))
	_, err = z.Write(catar.AppendBareTable(nil, n))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = tree.ReadSidecar(bytes.NewReader(sealed(body.Bytes(), size)), [32]byte{}, int64(size))
	if err == nil || !strings.Contains(err.Error(), "it unpacks to too much") {
		t.Errorf("%d bytes in %d: %v", size, body.Len(), err)
	}
}

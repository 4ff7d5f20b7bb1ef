package store

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"caravel/chunker"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// threeThousand is the chunk that testdata/chunk holds in many forms.
func threeThousand() []byte {
	var b bytes.Buffer
	for i := range 3000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.Bytes()
}

// What the peers wrote, and what they refuse.
func TestDecompressVectors(t *testing.T) {
	plain := threeThousand()
	want := Want{ID: chunker.SHA512_256.Sum(plain), Size: len(plain)}
	if got := want.ID.String(); got != "54edf51c7618565cb9cdf5474962b9f6c7ef68610d4ab02523aeb3accb857a54" {
		t.Fatalf("chunk %s is not the one of testdata/chunk", got)
	}
	refused := map[string]string{
		"bomb-200-mib.cacnk":          "unpacking to 28890 bytes: output bigger than",
		"empty-file.cacnk":            "truncated",
		"empty-frame.cacnk":           "0 bytes, the index says 28890",
		"raw-data.cacnk":              "no known compression (starts with 6c696e652030)",
		"skippable-frame-first.cacnk": "no known compression (starts with 5",
		"trailing-bytes.cacnk":        "zstd: bytes after the compressed data",
		"truncated.cacnk":             "zstd: truncated",
		"two-frames.cacnk":            "zstd: bytes after the compressed data",
		"wrong-content.cacnk":         "expands to more than the 28890 bytes of the index",
	}
	files, err := filepath.Glob("testdata/chunk/*.cacnk")
	if err != nil || len(files) != 13 {
		t.Fatalf("%d files in testdata/chunk, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			stored, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			err = NewStored(want, file, Zstd, stored, nil).Verify()
			if strings.HasPrefix(filepath.Base(file), "good") {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			text := refused[filepath.Base(file)]
			if err == nil || text == "" || !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want %q in it", err, text)
			}
			unknown := Want{ID: want.ID}
			if err := NewStored(unknown, file, Zstd, stored, nil).Verify(); err == nil {
				t.Error("accepted with unknown size")
			}
		})
	}
}

func TestCompressRoundTrip(t *testing.T) {
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	plains := [][]byte{{1}, noise[:255], noise[:256], noise[:1024], noise[:1025], threeThousand(), noise, make([]byte, 1<<20)}
	for c, p := range packings[:None] {
		for _, level := range []int{0, 1, 5, p.maxLevel} {
			for _, plain := range plains {
				stored, err := compress(plain, Compression(c), level)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := sniff(stored.b); got != Compression(c) || err != nil {
					t.Errorf("%s:%d: sniffed as %v, error %v", p.name, level, got, err)
				}
				for _, size := range []int{len(plain), 0} {
					got, err := decompress(stored.b, size)
					if err != nil {
						t.Errorf("%s:%d, %d bytes: %v", p.name, level, len(plain), err)
						continue
					}
					if !bytes.Equal(got.b, plain) {
						t.Errorf("%s:%d, %d bytes: other bytes", p.name, level, len(plain))
					}
					got.free()
				}
				stored.free()
			}
		}
	}
}

// casync reads one frame without a dictionary; that the frame says its size
// saves readers a buffer.
func TestZstdFrame(t *testing.T) {
	for _, n := range []int{1, 255, 256, 70_000, 10 << 20} {
		stored, err := compress(make([]byte, n), Zstd, 0)
		if err != nil {
			t.Fatal(err)
		}
		var h zstd.Header
		if err := h.Decode(stored.b); err != nil {
			t.Fatal(err)
		}
		if !h.HasFCS || h.FrameContentSize != uint64(n) || h.DictionaryID != 0 || h.HasCheckSum {
			t.Errorf("%d bytes: %+v", n, h)
		}
	}
}

func TestDecompressRefuses(t *testing.T) {
	plain := threeThousand()[:2000]
	for c, p := range packings[:None] {
		buf, err := compress(plain, Compression(c), 0)
		if err != nil {
			t.Fatal(err)
		}
		good := buf.b
		tests := []struct {
			name   string
			stored []byte
			size   int
		}{
			{"index says less", good, len(plain) - 1},
			{"index says much less", good, 1},
			{"two frames", append(bytes.Clone(good), good...), 2 * len(plain)},
			{"zero byte behind", append(bytes.Clone(good), 0), len(plain)},
			{"four zero bytes behind", append(bytes.Clone(good), 0, 0, 0, 0), len(plain)},
			{"skippable frame behind", append(bytes.Clone(good), "\x50\x2a\x4d\x18\x00\x00\x00\x00"...), len(plain)},
			{"nothing", nil, len(plain)},
		}
		for _, tt := range tests {
			if got, err := decompress(tt.stored, tt.size); err == nil {
				t.Errorf("%s, %s: accepted, %d bytes", p.name, tt.name, len(got.b))
			}
		}
		for n := range len(good) {
			if _, err := decompress(good[:n], len(plain)); err == nil {
				t.Errorf("%s: accepted when cut to %d of %d bytes", p.name, n, len(good))
			}
		}
		for i := range good { // no panic, and no other bytes if there is a sum
			spoilt := bytes.Clone(good)
			spoilt[i] ^= 0x10
			got, err := decompress(spoilt, len(plain))
			if err == nil && Compression(c) != Zstd && !bytes.Equal(got.b, plain) {
				t.Errorf("%s: byte %d changed, other bytes accepted", p.name, i)
			}
		}
	}
}

// Whatever a header asks for, no more is allocated than the chunk's size and
// what a decoder always needs.
func TestBombsCostNothing(t *testing.T) {
	zeros := make([]byte, 8<<20)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(zeros)
	w.Close()
	zst, err := compress(zeros, Zstd, 0)
	if err != nil {
		t.Fatal(err)
	}
	xzs, err := compress(zeros[:1<<20], XZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	wide := append([]byte("\x28\xb5\x2f\xfd\x00"), 17<<3, 1, 0, 0) // a window of 128 MiB
	long := append([]byte("\x28\xb5\x2f\xfd\xa0"), 0, 0, 0, 8, 1, 0, 0)
	tests := []struct {
		name   string
		stored []byte
	}{
		{"zstd", zst.b},
		{"zstd without size", withoutSize(t, zeros)},
		{"zstd with a wide window", wide},
		{"zstd that announces 128 MiB", long},
		{"gzip", gz.Bytes()},
		{"xz", xzs.b},
		{"xz with a dictionary of 4 GiB", wideXZ(t)},
	}
	const size = 1000
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			decompress(tt.stored, size) // makes the decoder's own memory
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 10 {
				if buf, err := decompress(tt.stored, size); err == nil && len(buf.b) >= size {
					t.Errorf("accepted: %d bytes", len(buf.b))
				}
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("allocated %d bytes in 10 runs", got)
			}
		})
	}
}

// withoutSize packs as casync does: the frame does not say how long it is.
func withoutSize(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain[:1]); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	w.Write(plain[1:])
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// wideXZ is a short stream whose header asks for the largest dictionary.
func wideXZ(t *testing.T) []byte {
	t.Helper()
	buf, err := compress([]byte("short"), XZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	header := buf.b[12 : 12+(int(buf.b[12])+1)*4]
	i := bytes.IndexByte(header, 0x21) + 2
	header[i] = 40
	binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
	return buf.b
}

func TestXZBlocks(t *testing.T) {
	plain := threeThousand()
	for _, check := range []byte{xz.CRC32, xz.CRC64, xz.SHA256, xz.None} {
		var b bytes.Buffer
		w, err := xz.WriterConfig{BlockSize: 10_000, CheckSum: check, NoCheckSum: check == xz.None}.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := decompress(b.Bytes(), len(plain))
		if err != nil || !bytes.Equal(got.b, plain) {
			t.Errorf("check %d: %v", check, err)
		}
	}
}

func TestParseCompression(t *testing.T) {
	tests := []struct {
		in    string
		want  Compression
		level int
		err   string
	}{
		{"zstd", Zstd, 0, ""},
		{"zstd:19", Zstd, 19, ""},
		{"xz", XZ, 0, ""},
		{"xz:9", XZ, 9, ""},
		{"gzip:1", Gzip, 1, ""},
		{"none", None, 0, ""},
		{"", 0, 0, `store: compression "": want zstd, xz, gzip or none`},
		{"zstd:", 0, 0, "want a level from 1 to 22"},
		{"zstd:0", 0, 0, "want a level from 1 to 22"},
		{"zstd:23", 0, 0, "want a level from 1 to 22"},
		{"xz:x", 0, 0, "want a level from 1 to 9"},
		{"gzip:-1", 0, 0, "want a level from 1 to 9"},
		{"none:1", 0, 0, "there are no levels"},
		{"lz4", 0, 0, "want zstd, xz, gzip or none"},
	}
	for _, tt := range tests {
		c, level, err := ParseCompression(tt.in)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: got %v, want %q", tt.in, err, tt.err)
			}
			continue
		}
		if c != tt.want || level != tt.level || err != nil {
			t.Errorf("%q: got %v, %d, %v", tt.in, c, level, err)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	files, _ := filepath.Glob("testdata/chunk/*.cacnk")
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			f.Add(b, 28890)
			f.Add(b, 0)
		}
	}
	for c := range None {
		buf, err := compress([]byte("some plain bytes, some plain bytes"), c, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(buf.b, 34)
	}
	f.Fuzz(func(t *testing.T, stored []byte, size int) {
		if size < 0 || size > 1<<20 {
			size = 1 << 20
		}
		buf, err := decompress(stored, size)
		if err != nil {
			return
		}
		defer buf.free()
		if len(buf.b) > most(size) {
			t.Fatalf("%d bytes, at most %d may be", len(buf.b), most(size))
		}
		if cap(buf.b) > 2*max(len(buf.b), size, 1<<smallest)+2*zstdBlock {
			t.Fatalf("%d bytes in a buffer of %d", len(buf.b), cap(buf.b))
		}
		c, err := sniff(stored)
		if err != nil {
			t.Fatal(err)
		}
		again, err := compress(buf.b, c, 0)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decompress(again.b, len(buf.b))
		if err != nil || !bytes.Equal(back.b, buf.b) {
			t.Fatalf("not the same when packed again: %v", err)
		}
	})
}

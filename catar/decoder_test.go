package catar_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/catar"
	"caravel/feature"
)

// A stretched archive is one in which a file is much longer than memory: the
// bytes of a hole are zeros that nothing holds.
type stretched struct {
	before, after []byte
	hole          int64
	off           int64
	reads, seeks  int
}

func (s *stretched) Read(p []byte) (int, error) {
	s.reads++
	at := s.off
	for i := range p {
		switch in := at - int64(len(s.before)); {
		case in < 0:
			p[i] = s.before[at]
		case in < s.hole:
			p[i] = 0
		case in-s.hole < int64(len(s.after)):
			p[i] = s.after[in-s.hole]
		case i == 0:
			return 0, io.EOF
		default:
			s.off = at
			return i, nil
		}
		at++
	}
	s.off = at
	return len(p), nil
}

func (s *stretched) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += s.off
	case io.SeekEnd:
		off += int64(len(s.before)+len(s.after)) + s.hole
	}
	s.seeks++
	s.off = off
	return off, nil
}

// longFile is an archive with a file "f" of size bytes.
func longFile(size int64) *stretched {
	const f = feature.Permissions | feature.SHA512_256
	before := entry(f, 0o40755)
	start := uint64(len(before))
	before = append(before, record(typeFilename, "f\x00")...)
	before = append(before, entry(f, 0o100644)...)
	before = appendU64(before, 16+uint64(size), typePayload)
	goodbye := uint64(len(before)) + uint64(size)
	after := table([]item{{start, goodbye - start, siphash("f")}}, goodbye)
	return &stretched{before: before, after: after, hole: size}
}

func TestPayloadOfAnySize(t *testing.T) {
	for _, size := range []int64{0, 1, 64 << 10, 64<<10 + 1, 1 << 20, 1 << 40, 1<<63 - 1 - 162 - 64} {
		s := longFile(size)
		d := catar.NewDecoder(s, catar.DecoderOptions{})
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
		n, err := d.Next()
		if err != nil || n.Size != size || n.Body != 162 {
			t.Fatalf("%d bytes: %+v, error %v", size, n, err)
		}
		if _, err := d.Next(); err != io.EOF {
			t.Errorf("%d bytes: %v", size, err)
		}
		if want := 162 + size + 64; d.Offset() != want || s.reads > 6 {
			t.Errorf("%d bytes: now at %d, not %d, after %d reads and %d seeks", size, d.Offset(), want, s.reads, s.seeks)
		}
	}

	s := longFile(1 << 40)
	s.before = append(s.before[:len(s.before)-16], appendU64(nil, 1<<63-100, typePayload)...)
	if err := refused(s); err == nil || !strings.Contains(err.Error(), "catar: offset 146: PAYLOAD of 9223372036854775708 bytes, which ends beyond 2^63-1") {
		t.Error(err)
	}
}

// The size of a record is judged before memory is spent on it.
func TestHugeRecordsCostNothing(t *testing.T) {
	const f = (feature.ACL | feature.XAttrs | feature.FCaps | feature.SELinux | feature.Symlinks | feature.DeviceNodes |
		feature.QuotaProjID | feature.UID32 | feature.UserNames | feature.SHA512_256)
	types := []uint64{
		typeEntry, 0xf453131aaeeaccb3, 0x25eb6ac969396a52, typeXAttr, typeACLUser, 0x36f2acb56cb3dd0b, typeGroupObj, 0xfe3eeda6823c8cd0,
		0xbdf03df9bd010a91, 0xa0cb1168782d1f51, 0x46faf0602fd26c59, 0xf7267db0afed0629, 0x161baf2d8772a72b, 0x664a6fb6830e0d6c,
		0xac3dace369dfe643, typeFilename, typeGoodbye, typePayload, 1,
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, typ := range types {
		for _, size := range []uint64{0, 15, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
			b := appendU64(entry(f, 0o40755), size, typ)
			err := refused(onlyReader{io.MultiReader(bytes.NewReader(b), zeros{})})
			if err == nil || !strings.HasPrefix(err.Error(), "catar: offset 64: ") {
				t.Errorf("type %#x of %d bytes: %v", typ, size, err)
			}
			if _, _, err := catar.ParseHead(b[:80], 0, 1<<62, 0); typ != typeGoodbye && typ != typeFilename && (err == nil || errors.As(err, new(*catar.ShortError))) {
				t.Errorf("type %#x of %d bytes at random: %v", typ, size, err)
			}
		}
	}
	runtime.ReadMemStats(&after)
	// Each of the decoders has a buffer.
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(len(types)*6*(80<<10)); got > most {
		t.Errorf("%d bytes of memory, above %d", got, most)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Payloads come through whole in every way to read them.
func TestDecoderPayload(t *testing.T) {
	const f = feature.Permissions | feature.SHA512_256
	for _, size := range []int{0, 1, 1000, 16 << 10, 64 << 10, 256<<10 + 5, 1 << 20} {
		payload := strings.Repeat("payload\n", size/8+1)[:size]
		file := appendFile(nil, f, payload)
		archive := directory(f, child{"a", file}, child{"b", file})
		readers := map[string]func() io.Reader{
			"seeking": func() io.Reader { return bytes.NewReader(archive) },
			"pipe":    func() io.Reader { return onlyReader{bytes.NewReader(archive)} },
			"half":    func() io.Reader { return iotest.HalfReader(bytes.NewReader(archive)) },
			"eof":     func() io.Reader { return iotest.DataErrReader(bytes.NewReader(archive)) },
		}
		ways := map[string]func(d *catar.Decoder) (string, error){
			"ReadAll": func(d *catar.Decoder) (string, error) { b, err := io.ReadAll(onlyReader{d}); return string(b), err },
			"WriteTo": func(d *catar.Decoder) (string, error) {
				var b strings.Builder
				_, err := io.Copy(&b, d)
				return b.String(), err
			},
			"large": func(d *catar.Decoder) (string, error) {
				b := make([]byte, size)
				_, err := io.ReadFull(d, b)
				return string(b), err
			},
			"a part, then the rest": func(d *catar.Decoder) (string, error) {
				b := make([]byte, size/2)
				_, err := io.ReadFull(d, b)
				rest, err2 := io.ReadAll(d)
				return string(b) + string(rest), errors.Join(err, err2)
			},
		}
		for from, open := range readers {
			for way, read := range ways {
				d := catar.NewDecoder(open(), catar.DecoderOptions{})
				for _, name := range []string{"", "a", "b"} {
					n, err := d.Next()
					if err != nil || n.Name != name {
						t.Fatalf("%d bytes, %s, %s: %v, error %v", size, from, way, n, err)
					}
					if name == "" {
						continue
					}
					if got, err := read(d); err != nil || got != payload {
						t.Errorf("%d bytes, %s, %s: %d came, error %v", size, from, way, len(got), err)
					}
					if n, err := d.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Errorf("%d bytes, %s, %s: %d more, error %v", size, from, way, n, err)
					}
				}
				if _, err := d.Next(); err != io.EOF || d.Offset() != int64(len(archive)) {
					t.Errorf("%d bytes, %s, %s: ended at %d of %d with %v", size, from, way, d.Offset(), len(archive), err)
				}
			}
		}
	}
}

// A payload that is cut off is told from one that has ended.
func TestTruncatedPayload(t *testing.T) {
	for _, size := range []int{100, 1 << 20} {
		archive := directory(feature.Permissions, child{"a", appendFile(nil, feature.Permissions, strings.Repeat("x", size))})
		archive = archive[:162+size-10]
		want := fmt.Sprintf(`catar: offset %d: truncated in the payload of "a", 10 bytes before its end at %d`, 152+size, 162+size)
		for way, read := range map[string]func(d *catar.Decoder) error{
			"Read":    func(d *catar.Decoder) error { _, err := io.ReadAll(onlyReader{d}); return err },
			"WriteTo": func(d *catar.Decoder) error { _, err := d.WriteTo(io.Discard); return err },
			"Next":    func(d *catar.Decoder) error { _, err := d.Next(); return err },
		} {
			d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
			_, _ = d.Next()
			if _, err := d.Next(); err != nil {
				t.Fatal(err)
			}
			if err := read(d); err == nil || err.Error() != want {
				t.Errorf("%d bytes, %s: got %v, want %s", size, way, err, want)
			}
			if _, err := d.Next(); err == nil || err.Error() != want {
				t.Errorf("%d bytes, %s, afterwards: got %v", size, way, err)
			}
		}
	}
}

// What a reader says is handed on, wherever it says it; and one that says
// nothing at all is left.
func TestReaderFails(t *testing.T) {
	broken := errors.New("broken")
	archive := read(t, "testdata/tree.default.catar")
	for n := 0; n < len(archive); n += 97 {
		r := io.MultiReader(bytes.NewReader(archive[:n]), iotest.ErrReader(broken))
		if err := refused(r); !errors.Is(err, broken) || strings.Contains(err.Error(), "catar: ") { // it was not born here
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	if err := refused(silent{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// A copy of a node stays what it was, and its offsets are the file's.
func TestNodesStay(t *testing.T) {
	archive := read(t, "testdata/tree.default.catar")
	first, err := streamed(bytes.NewReader(archive), catar.DecoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := streamed(iotest.OneByteReader(bytes.NewReader(archive)), catar.DecoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("read byte by byte, the nodes are others")
	}
	for _, n := range first {
		if got := archive[n.Head+8:]; !bytes.HasPrefix(got, appendU64(nil, typeEntry)) {
			t.Errorf("%q: no ENTRY at %d", n.Name, n.Head)
		}
		if got := archive[n.Start:n.Head]; n.Depth > 0 && !bytes.Equal(got, record(typeFilename, n.Name+"\x00")) {
			t.Errorf("%q: no FILENAME at %d", n.Name, n.Start)
		}
	}
}

// A file need not be at its start.
func TestDecodeInTheMiddleOfAFile(t *testing.T) {
	archive := read(t, "testdata/small.catar")
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, append([]byte("something else"), archive...), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(14, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := refused(f); err != nil {
		t.Error(err)
	}
}

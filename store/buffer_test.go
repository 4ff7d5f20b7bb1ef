package store

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"caravel/chunker"
)

func TestSizeClass(t *testing.T) {
	last := -1
	for n := 1; n <= 1<<28; n = n + n/64 + 1 {
		class, size := sizeClass(n)
		if size < n || n > 1<<smallest && size-n > size/5 {
			t.Fatalf("%d bytes in a buffer of %d", n, size)
		}
		if class < last || class >= classCount {
			t.Fatalf("%d bytes: class %d after %d", n, class, last)
		}
		if again, same := sizeClass(size); again != class || same != size {
			t.Fatalf("class %d holds %d bytes, which are put into class %d", class, size, again)
		}
		last = class
	}
	if last != classCount-1 {
		t.Errorf("largest class used is %d, want %d", last, classCount-1)
	}
	if class, size := sizeClass(1<<28 + 1); class != -1 || size != 1<<28+1 {
		t.Errorf("beyond the largest: class %d, size %d", class, size)
	}
}

func TestReadAll(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 5000)
	for _, hint := range []int{0, 1, 5000, len(text) - 1, len(text), len(text) + 1, 1 << 20} {
		for _, limit := range []int{len(text), len(text) + 1, 1 << 20} {
			for _, r := range []io.Reader{bytes.NewReader(text), iotest.DataErrReader(bytes.NewReader(text)), iotest.HalfReader(bytes.NewReader(text))} {
				buf, err := readAll(r, hint, limit)
				if err != nil || !bytes.Equal(buf.b, text) {
					t.Fatalf("hint %d, limit %d: %v", hint, limit, err)
				}
				buf.free()
			}
		}
		for _, limit := range []int{0, 1, len(text) - 1} {
			r := bytes.NewReader(text)
			if _, err := readAll(r, hint, limit); !errors.Is(err, errTooLong) {
				t.Errorf("hint %d, limit %d: got %v, want errTooLong", hint, limit, err)
			}
			if read := len(text) - r.Len(); read > limit+1 {
				t.Errorf("hint %d, limit %d: read %d bytes", hint, limit, read)
			}
		}
	}
	broken := errors.New("broken")
	if _, err := readAll(iotest.ErrReader(broken), 10, 10); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestBufferWrite(t *testing.T) {
	buf := newBuffer(1)
	var want []byte
	for i := range 1000 {
		p := bytes.Repeat([]byte{byte(i)}, i)
		want = append(want, p...)
		if n, err := buf.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if !bytes.Equal(buf.b, want) {
		t.Error("other bytes than were written")
	}
}

func BenchmarkUnpack(b *testing.B) {
	plain := threeThousand()
	plain = append(plain, plain...)
	for c := range None {
		b.Run(c.String(), func(b *testing.B) {
			packed, err := compress(plain, c, 0)
			if err != nil {
				b.Fatal(err)
			}
			want := Want{ID: chunker.SHA512_256.Sum(plain), Size: len(plain)}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				chunk := NewStored(want, "", c, packed.b, nil)
				if err := chunk.Verify(); err != nil {
					b.Fatal(err)
				}
				chunk.Release()
			}
		})
	}
}

func BenchmarkPack(b *testing.B) {
	plain := threeThousand()
	for c := range None {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				packed, err := compress(plain, c, 0)
				if err != nil || len(packed.b) > len(plain)/2 {
					b.Fatal("did not shrink", err)
				}
				packed.free()
			}
		})
	}
}

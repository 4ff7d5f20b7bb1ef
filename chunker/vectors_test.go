package chunker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/chunker"
)

// stream is the random data that casync was given for the files in testdata.
func stream(seed string, n int) []byte {
	var b []byte
	for i := uint64(0); len(b) < n; i++ {
		sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(seed), i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// text is the words that casync was given for the files in testdata.
func text(seed string, n int) []byte {
	words := strings.Fields("the quick brown fox jumps over a lazy dog and then back again while lines of text repeat")
	var b []byte
	for i := uint64(0); len(b) < n; i++ {
		for _, x := range sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(seed), i)) {
			b = append(b, words[int(x)%len(words)]...)
			if x%11 == 0 {
				b = append(b, '\n')
			} else {
				b = append(b, ' ')
			}
		}
	}
	return b[:n]
}

func blob(t *testing.T, name string) []byte {
	t.Helper()
	switch name {
	case "empty":
		return nil
	case "one":
		return []byte("x")
	case "zeros-1M":
		return make([]byte, 1<<20)
	case "rnd-2M":
		return stream("two", 2<<20)
	case "text-1M":
		return text("text", 1<<20)
	case "mixed-512K":
		return append(append(stream("m1", 150000), make([]byte, 200000)...), stream("m2", 174288)...)
	}
	var n int
	if _, err := fmt.Sscanf(name, "rnd-%d", &n); err != nil {
		t.Fatalf("blob %q: unknown", name)
	}
	return stream("rnd", n)
}

// TestVectors cuts what casync cut, and names the chunks and the stream.
func TestVectors(t *testing.T) {
	digests, err := os.ReadFile(filepath.Join("testdata", "DIGESTS"))
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(strings.TrimSpace(string(digests)), "\n")
	for _, line := range cases {
		fields := strings.Fields(line)
		whole, file := fields[0], fields[1]
		t.Run(file, func(t *testing.T) {
			p, d := chunker.DefaultParams(), chunker.SHA512_256
			for _, option := range fields[2:] {
				name, value, _ := strings.Cut(option, "=")
				var err error
				switch name {
				case "--chunk-size":
					p, err = chunker.ParseParams(value)
				case "--digest":
					d, err = chunker.ParseDigest(value)
				default:
					t.Fatalf("option %q: unknown", option)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			name, _, _ := strings.Cut(file, ".")
			data := blob(t, name)
			want, err := os.ReadFile(filepath.Join("testdata", file+".chunks"))
			if err != nil {
				t.Fatal(err)
			}

			var got strings.Builder
			start, sum := 0, d.New()
			for chunk, err := range chunker.Chunks(bytes.NewReader(data), p) {
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&got, start, len(chunk), d.Sum(chunk))
				start += len(chunk)
				sum.Write(chunk)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
			if id := chunker.ID(sum.Sum(nil)); id.String() != whole {
				t.Errorf("digest of the stream: got %v, want %s", id, whole)
			}
		})
	}
	if len(cases) != 25 {
		t.Errorf("%d cases, want 25", len(cases))
	}
}

package tarball_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"caravel/tarball"
)

// xzOf is one stream of an .xz file, of blocks of 1000 bytes.
func xzOf(t testing.TB, check byte, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16, CheckSum: check, BlockSize: 1000, NoCheckSum: check == xz.None}.NewWriter(&b)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// greedy is a stream whose nth block asks for a dictionary of 3 GiB.
func greedy(t testing.TB, stream []byte, nth int) []byte {
	t.Helper()
	stream = bytes.Clone(stream)
	at, head := 12, bytes.Clone(stream[12:12+8]) // size, flags, the filter's three bytes
	for range nth {
		i := bytes.Index(stream[at+1:], head[:5])
		if i < 0 {
			t.Fatal("no such block")
		}
		at += 1 + i
	}
	const bits3GiB = 39
	stream[at+4] = bits3GiB
	sum := at + (int(stream[at])+1)*4 - 4
	binary.LittleEndian.PutUint32(stream[sum:], crc32.ChecksumIEEE(stream[at:sum]))
	return stream
}

// incompressible are bytes that take as many when packed.
func incompressible(n int) []byte {
	rng := rand.New(rand.NewPCG(5, 8))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func unpacked(in []byte) ([]byte, error) {
	r, err := tarball.Unpack(io.MultiReader(bytes.NewReader(in)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// TestXZ checks that .xz files are read whatever they are made of.
func TestXZ(t *testing.T) {
	plain := append(incompressible(5000), bytes.Repeat([]byte("again "), 2000)...)
	for _, check := range []byte{xz.None, xz.CRC32, xz.CRC64, xz.SHA256} {
		one := xzOf(t, check, plain)
		empty := xzOf(t, check, nil)
		for name, in := range map[string]struct {
			packed []byte
			times  int
		}{
			"one":         {one, 1},
			"two":         {append(bytes.Clone(one), one...), 2},
			"with zeros":  {bytes.Join([][]byte{one, one, nil}, make([]byte, 8)), 2},
			"empty":       {empty, 0},
			"empty first": {append(bytes.Clone(empty), one...), 1},
		} {
			got, err := unpacked(in.packed)
			if err != nil || !bytes.Equal(got, bytes.Repeat(plain, in.times)) {
				t.Errorf("check %d, %s: %d bytes, %v", check, name, len(got), err)
			}
		}
	}
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("xz is not installed")
	}
	for _, args := range []string{"-1", "-6 --check=sha256", "-9 --check=none", "--block-size=4096 -T2", "--block-list=1000,0 --check=crc32"} {
		c := exec.Command("xz", append(strings.Fields(args), "-c")...)
		c.Stdin = bytes.NewReader(plain)
		packed, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpacked(packed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("xz %s: %d bytes, %v", args, len(got), err)
		}
	}
}

// TestSpoiledXZ changes and cuts off an .xz file everywhere: nothing but what was packed
// comes out of it. (Some bits of LZMA say nothing.)
func TestSpoiledXZ(t *testing.T) {
	plain := append(incompressible(1100), bytes.Repeat([]byte("x"), 1000)...)
	whole := xzOf(t, xz.CRC64, plain)
	for i := range whole {
		if got, err := unpacked(whole[:i]); err == nil && i > 5 {
			t.Errorf("of %d bytes: %d bytes", i, len(got))
		}
		spoiled := bytes.Clone(whole)
		spoiled[i] ^= 0x10
		if got, err := unpacked(spoiled); err == nil && i > 5 && !bytes.Equal(got, plain) { // else it is not seen to be one
			t.Errorf("byte %d: %d bytes", i, len(got))
		}
	}
	for _, behind := range [][]byte{{0}, {0, 0, 0, 0, 0}, []byte("junk"), whole[:20]} {
		if _, err := unpacked(append(bytes.Clone(whole), behind...)); err == nil {
			t.Errorf("with %q behind it", behind)
		}
	}
}

// TestDictionaries checks that no block of any stream gets a dictionary as large as it
// wants.
func TestDictionaries(t *testing.T) {
	one := xzOf(t, xz.CRC64, incompressible(3000))
	for name, in := range map[string][]byte{
		"first block":   greedy(t, one, 0),
		"third block":   greedy(t, one, 2),
		"second stream": append(bytes.Clone(one), greedy(t, one, 0)...),
	} {
		_, err := unpacked(in)
		if want := fmt.Sprint("a dictionary of ", 3<<30, " bytes, above"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// TestPlain checks that a tar stream is one whatever its first name begins with.
func TestPlain(t *testing.T) {
	for _, name := range []string{"BZh9", "\x1f\x8b", "\xfd7zXZ\x00"} {
		in := written(t, tar.Header{Typeflag: tar.TypeReg, Name: "placeholder", Size: 3})
		copy(in, append([]byte(name), make([]byte, len("placeholder")-len(name))...))
		sum := 0
		for i, c := range in[:512] {
			if i >= 148 && i < 156 {
				c = ' '
			}
			sum += int(c)
		}
		copy(in[148:], fmt.Sprintf("%06o\x00 ", sum))
		if tarball.Packed(in[:tarball.MagicSize]) {
			t.Errorf("%q is said to be packed", name)
		}
		if got, err := unpacked(in); err != nil || !bytes.Equal(got, in) {
			t.Errorf("%q: %d bytes, %v", name, len(got), err)
		}
	}
}

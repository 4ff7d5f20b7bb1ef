package multisum_test

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"math/rand/v2"
	"testing"

	"caravel/internal/multisum"
)

func check(t *testing.T, messages [][]byte) {
	t.Helper()
	sums := make([][multisum.Size]byte, len(messages))
	multisum.Sum(sums, messages)
	for i, m := range messages {
		if sums[i] != sha512.Sum512_256(m) {
			t.Errorf("%d of %d messages, %d bytes: got %x", i, len(messages), len(m), sums[i])
		}
	}
}

// TestSum compares with crypto/sha512: all lengths about the ends of blocks, and lanes
// that end at different times.
func TestSum(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	some := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b)
		return b
	}
	check(t, nil)
	for n := range 40 {
		messages := make([][]byte, n)
		for i := range messages {
			messages[i] = some(rand.IntN(5000))
		}
		check(t, messages)
	}
	var all [][]byte
	for n := range 400 {
		all = append(all, some(n))
	}
	check(t, all)
	check(t, [][]byte{some(1 << 20), some(3)})
	check(t, [][]byte{nil, nil, some(1 << 20), {}, some(128), some(127)})
	same := some(64 << 10)
	check(t, [][]byte{same, same, same, same, same, same, same, same})
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("some message, cut into many"), uint64(1))
	f.Add(bytes.Repeat([]byte{0x80}, 1000), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		var messages [][]byte
		for range 1 + random.IntN(20) {
			from := random.IntN(len(b) + 1)
			messages = append(messages, b[from:from+random.IntN(len(b)-from+1)])
		}
		check(t, messages)
	})
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4, 8, 16, 32} {
		messages, total := make([][]byte, n), 0
		for i := range messages {
			size := 16<<10 + rand.IntN(96<<10)
			messages[i] = make([]byte, size)
			total += size
		}
		sums := make([][multisum.Size]byte, n)
		b.Run(fmt.Sprintf("%d at once", n), func(b *testing.B) {
			b.SetBytes(int64(total))
			for b.Loop() {
				multisum.Sum(sums, messages)
			}
		})
		b.Run(fmt.Sprintf("%d one by one", n), func(b *testing.B) {
			b.SetBytes(int64(total))
			for b.Loop() {
				for i, m := range messages {
					sums[i] = sha512.Sum512_256(m)
				}
			}
		})
	}
}

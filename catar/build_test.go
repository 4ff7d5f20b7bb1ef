package catar_test

import (
	"encoding/binary"
	"slices"

	"caravel/feature"
)

// Archives put together by hand, with faults as they are wanted. The tables are
// right, and found in another way than the package's own: by the recursion of
// docs/formats.md, section 4.8.

const (
	typeEntry    = 0x1396fabcea5bbb51
	typeXAttr    = 0xb8157091f80bc486
	typeACLUser  = 0x297dc88b2ef12faf
	typeGroupObj = 0x23047110441f38f3
	typePayload  = 0x8b9e1d93d6dcffc9
	typeFilename = 0x6dbb6ebcb3161f0b
	typeGoodbye  = 0xdfd35c5e8327c403
	tailMark     = 0x57446fa533702943
)

func appendU64(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func record(typ uint64, body string) []byte {
	return append(appendU64(nil, uint64(16+len(body)), typ), body...)
}

func entry(f feature.Flags, mode uint64) []byte {
	return appendU64(nil, 64, typeEntry, uint64(f), mode, 0, 0, 0, 0)
}

func appendFile(b []byte, f feature.Flags, payload string) []byte {
	b = append(b, entry(f, 0o100644)...)
	return append(b, record(typePayload, payload)...)
}

type child struct {
	name string
	node []byte
}

// An item is one of a table.
type item struct{ back, size, hash uint64 }

func directory(f feature.Flags, list ...child) []byte {
	b := entry(f, 0o40755)
	var items []item // with starts in place of distances
	for _, c := range list {
		start := len(b)
		b = append(b, record(typeFilename, c.name+"\x00")...)
		b = append(b, c.node...)
		items = append(items, item{uint64(start), uint64(len(b) - start), siphash(c.name)})
	}
	return append(b, table(items, uint64(len(b)))...)
}

// table is the GOODBYE at goodbye of a directory whose ENTRY is at 0. items have
// the children's starts.
func table(items []item, goodbye uint64) []byte {
	slices.SortStableFunc(items, func(a, b item) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	size := uint64(16 + 24*len(items) + 24)
	b := appendU64(nil, size, typeGoodbye)
	for _, it := range permuted(items) {
		b = appendU64(b, goodbye-it.back, it.size, it.hash)
	}
	return appendU64(b, goodbye, size, tailMark)
}

func permuted[T any](sorted []T) []T {
	out := make([]T, len(sorted))
	var place func(a []T, i int)
	place = func(a []T, i int) {
		n := len(a)
		if n == 0 {
			return
		}
		full := 0 // nodes above the last level
		for 2*full+1 < n {
			full = 2*full + 1
		}
		k := max(full-1, 0)/2 + min(n-full, (full+1)/2)
		out[i] = a[k]
		place(a[:k], 2*i+1)
		place(a[k+1:], 2*i+2)
	}
	place(sorted, 0)
	return out
}

// siphash is SipHash-2-4 as its authors write it.
func siphash(name string) uint64 {
	const k0, k1 = 0x8574442b0f1d84b3, 0x2736ed30d1c22ec1
	v0, v1 := uint64(k0^0x736f6d6570736575), uint64(k1^0x646f72616e646f6d)
	v2, v3 := uint64(k0^0x6c7967656e657261), uint64(k1^0x7465646279746573)
	rounds := func(n int) {
		for range n {
			v0, v2 = v0+v1, v2+v3
			v1, v3 = v1<<13|v1>>51, v3<<16|v3>>48
			v1, v3 = v1^v0, v3^v2
			v0 = v0<<32 | v0>>32
			v2, v0 = v2+v1, v0+v3
			v1, v3 = v1<<17|v1>>47, v3<<21|v3>>43
			v1, v3 = v1^v2, v3^v0
			v2 = v2<<32 | v2>>32
		}
	}
	padded := append([]byte(name), make([]byte, 8-len(name)%8)...)
	padded[len(padded)-1] = byte(len(name))
	for ; len(padded) > 0; padded = padded[8:] {
		m := binary.LittleEndian.Uint64(padded)
		v3 ^= m
		rounds(2)
		v0 ^= m
	}
	v2 ^= 0xff
	rounds(4)
	return v0 ^ v1 ^ v2 ^ v3
}

package prefetch_test

import (
	"context"
	"fmt"
	"log"

	"caravel/blockcache"
	"caravel/prefetch"
)

// printer shows the hints that a reader gives.
type printer struct{ *fakeImage }

func (p printer) Want(ranges ...blockcache.Range) {
	for _, r := range ranges {
		fmt.Printf("  fetch %d KiB at %d KiB\n", r.Len>>10, r.Off>>10)
	}
}

func ExampleReader() {
	disk := &fakeImage{size: 1 << 30, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(disk, printer{disk}, prefetch.Options{Chunk: 64 << 10})

	p := make([]byte, 64<<10)
	for _, kib := range []int64{700, 0, 64, 128, 192, 256} {
		fmt.Printf("read at %d KiB\n", kib)
		if _, err := r.ReadAt(context.Background(), p, kib<<10); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// read at 700 KiB
	// read at 0 KiB
	// read at 64 KiB
	// read at 128 KiB
	//   fetch 64 KiB at 192 KiB
	// read at 192 KiB
	//   fetch 128 KiB at 256 KiB
	// read at 256 KiB
	//   fetch 256 KiB at 320 KiB
}

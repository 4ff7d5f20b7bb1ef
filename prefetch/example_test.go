package prefetch_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
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

// loud says what it is told to bring.
type loud struct{}

func (loud) Bring(_ context.Context, row int) (blockcache.Outcome, error) {
	fmt.Printf("fetch chunk %d\n", row)
	return blockcache.Fetched, nil
}

// A run is recorded, and replayed with the next version of the image, which has a
// chunk more in front.
func ExampleReplay() {
	version := func(chunks ...byte) *index.Index {
		b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams())
		for _, c := range chunks {
			if err := b.Append(chunker.ID{c}, 64<<10); err != nil {
				log.Fatal(err)
			}
		}
		return b.Index()
	}

	first := version(10, 11, 12, 13, 14)
	rec := prefetch.NewRecorder(first.Len())
	for _, row := range []int{3, 4, 3, 0} { // blockcache.Options{Touched: rec.Touch} does this
		rec.Touch(row)
	}
	var file bytes.Buffer
	if _, err := rec.Profile(first).WriteTo(&file); err != nil {
		log.Fatal(err)
	}

	second := version(99, 10, 11, 12, 13, 14)
	p, err := prefetch.ReadProfile(&file)
	if err != nil {
		log.Fatal(err)
	}
	stats := prefetch.Replay(context.Background(), p.Rows(second), loud{}, prefetch.ReplayOptions{Requests: 1})
	fmt.Printf("%+v\n", stats)
	// Output:
	// fetch chunk 4
	// fetch chunk 5
	// fetch chunk 1
	// {Wanted:3 Fetched:3 Present:0 NoRoom:0 Failed:0}
}

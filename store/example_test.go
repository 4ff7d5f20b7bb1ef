package store_test

import (
	"context"
	"fmt"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/storetest"
)

func Example() {
	ctx := context.Background()
	plain := []byte("plain bytes of a chunk")
	c := store.NewChunk(chunker.SHA512_256.Sum(plain), chunker.SHA512_256, plain, nil)
	defer c.Release()

	far, err := store.Writable(storetest.NewMemory(nil), store.Form{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := far.Put(ctx, c); err != nil {
		fmt.Println(err)
		return
	}
	near := store.Chunks(storetest.NewMemory(nil), store.Form{Either: true})
	got, err := store.Router(nil, near, far).Get(ctx, store.Want{ID: c.ID(), Size: len(plain)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer got.Release()
	text, err := got.Plain()
	fmt.Printf("%s, from %.12s…, error %v\n", text, got.Where(), err)
	// Output: plain bytes of a chunk, from memory/2af4/…, error <nil>
}

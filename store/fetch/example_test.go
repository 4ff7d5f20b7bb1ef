package fetch_test

import (
	"context"
	"fmt"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

func Example() {
	q := fetch.New(&origin{latency: time.Millisecond}, fetch.Options{})
	defer q.Close()

	c, err := q.Get(context.Background(), want(7, store.Demand))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Release()
	plain, _ := c.Plain() // known to be good
	fmt.Println(plain[0], c.Verified(), q.Stats().Class[store.Demand].Requests)
	// Output: 7 true 1
}

package storetest_test

import (
	"testing"

	"caravel/store"
	"caravel/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
		return storetest.NewMemory(objects)
	})
}

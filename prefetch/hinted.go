package prefetch

import (
	"caravel/blockcache"
	"caravel/store"
)

// Hinted says what became of the chunks that were brought into memory before
// somebody read them.
type Hinted struct {
	Walk      Brought `json:"walk"`
	Profile   Brought `json:"profile"`
	ReadAhead Brought `json:"readAhead"`
}

// Brought counts plain bytes.
type Brought struct {
	Fetched int64 `json:"fetched"` // into memory
	Used    int64 `json:"used"`    // of those, read
	Wasted  int64 `json:"wasted"`  // of those, evicted before anybody read them
}

// HintedOf are the counters of a memory.
func HintedOf(m blockcache.MemoryStats) Hinted {
	of := func(c store.Class) Brought { return Brought{m.Fetched[c], m.Used[c], m.Wasted[c]} }
	return Hinted{Walk: of(store.Walk), Profile: of(store.Profile), ReadAhead: of(store.ReadAhead)}
}

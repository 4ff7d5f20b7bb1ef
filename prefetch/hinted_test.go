package prefetch_test

import (
	"encoding/json"
	"testing"

	"caravel/blockcache"
	"caravel/prefetch"
	"caravel/store"
)

// What programs read has names that stay.
func TestCountersAsJSON(t *testing.T) {
	var m blockcache.MemoryStats
	m.Fetched[store.Profile], m.Used[store.Profile], m.Wasted[store.Profile] = 1, 2, 3
	m.Fetched[store.ReadAhead], m.Used[store.ReadAhead], m.Wasted[store.ReadAhead] = 4, 5, 6
	m.Fetched[store.Walk], m.Used[store.Walk], m.Wasted[store.Walk] = 7, 8, 9
	got, err := json.Marshal([]any{
		prefetch.Stats{Asked: 10, Used: 11, Left: 12},
		prefetch.ReplayStats{Wanted: 13, Fetched: 14, Present: 15, NoRoom: 20, Failed: 16},
		prefetch.SweepStats{Present: 17, Fetched: 18, Left: 19, Bytes: 20, Full: true},
		prefetch.HintedOf(m),
	})
	want := `[{"asked":10,"used":11,"left":12},` +
		`{"wanted":13,"fetched":14,"present":15,"noRoom":20,"failed":16},` +
		`{"present":17,"fetched":18,"left":19,"bytes":20,"full":true},` +
		`{"walk":{"fetched":7,"used":8,"wasted":9},"profile":{"fetched":1,"used":2,"wasted":3},"readAhead":{"fetched":4,"used":5,"wasted":6}}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

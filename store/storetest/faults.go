package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/store"
)

// A Bench is a store on its real server, for [RunFaults]. What its users cannot do to
// it, its functions do behind their backs. What has no meaning there is nil, and Without
// says why.
type Bench struct {
	// Open opens the store anew, sharing nothing with what was opened before.
	Open func(t testing.TB, way Way) Opened

	// Plant puts an object there, with any bytes, in place of what may be there.
	Plant func(t testing.TB, name string, content []byte)

	// Objects are all that lie there now.
	Objects func(t testing.TB) map[string][]byte

	Line     func(t testing.TB) Line           // a new line to the server, until the end of the test
	Answers  []Answer                          // what the server can say instead of what it is asked for
	Refusals []Refusal                         // keys and certificates with which nothing is opened
	Crypt    bool                              // chunks can be encrypted
	Full     func(t testing.TB) (undo func())  // has the server's disk be full
	ReadOnly func(t testing.TB) (undo func())  // has the server's disk be for reading only
	Kill     func(t testing.TB) (again func()) // ends the server as kill -9 does; again starts another one in its place

	// Stall is how long the server may be silent where it is so on purpose: enough to
	// connect to it on a slow day; 0: 2 s.
	Stall time.Duration

	// Damaged says that a chunk which is there and damaged is not replaced: what Put
	// says of it then.
	Damaged string

	// Without says of the tests named, such as "line", "disk/full" or "answers/404", why
	// they have no meaning here.
	Without map[string]string
}

// A Way is how a store is opened.
type Way struct {
	Address string        // where the server is reached: a Line's, or an Answer's; "": where it is
	Stall   time.Duration // the longest silence; 0: the backend's own
	Key     *store.Key    // of the chunks; nil: they are not encrypted
}

// Opened is a store that was opened. What it gives is not verified.
type Opened struct {
	store.Writer
	Where string       // what each of its errors has in it
	Close func() error // after which nothing of it is left
}

// A Line leads to a server, and can be broken.
type Line interface {
	// Address is where the server is reached over the line.
	Address() string

	// Break resets all connections, and lets something become of all new ones. struck
	// is closed when that has come to pass for the first.
	Break(b Break) (struck <-chan struct{})

	// Mend ends that. What has come to pass ends in a reset.
	Mend()

	// Carried are the bytes that one connection has carried at most.
	Carried() (up, down int64)
}

// A Break is what becomes of a connection.
type Break struct {
	Kind  BreakKind
	Up    bool  // After counts bytes to the server, else from it
	After int64 // how many still arrive
}

// A BreakKind is a way in which a line breaks.
type BreakKind string

// The ways in which lines break.
const (
	Refuse BreakKind = "refused" // there is no connection to be had
	Reset  BreakKind = "reset"   // it is reset
	Cut    BreakKind = "cut"     // it ends, as if the other side had closed it
	Stall  BreakKind = "stalled" // nothing more arrives, and it stays open
)

// An Answer is what a server says in place of what it is asked for.
type Answer struct {
	Name    string
	Address string                           // where it says so; "": where it is
	Give    func(t testing.TB) (undo func()) // has it say so from now on
	Says    string                           // in the error
	Kind    error                            // of what is read: store.ErrMissing or store.ErrRefused; nil: it is worth another try
	Busy    time.Duration                    // how long it wants to be left alone; < 0: it does not say; 0: it is not busy
	Reads   bool                             // it is not said to who writes
	Writes  bool                             // it is not said to who reads
}

// A Refusal is a way to open a store by which it cannot be used.
type Refusal struct {
	Name   string
	Open   func(t testing.TB) Opened
	Says   string // in the error
	Secret string // not in the error; "": there is none
	Mute   bool   // Has cannot tell it from a chunk that is not there
}

// RunFaults tests what becomes of a store when its server, its disk, the line there or
// somebody else's chunks are at fault: whoever reads gets the right bytes or an error of
// one line that says where, what and, by its kind, whether to ask again; no name of a
// chunk ever has anything else under it; the store is used again when the fault is gone;
// and nothing is left over.
func RunFaults(t *testing.T, b Bench) {
	f := &faults{Bench: b}
	f.run(t, "chunks", true, f.chunks)
	f.run(t, "line", b.Line != nil, f.line)
	f.run(t, "cancel", b.Line != nil, f.cancel)
	f.run(t, "answers", len(b.Answers) > 0, f.answers)
	f.run(t, "refusals", len(b.Refusals) > 0, f.refusals)
	f.run(t, "encryption", b.Crypt, f.encryption)
	f.run(t, "disk/full", b.Full != nil, func(t *testing.T) { f.disk(t, b.Full) })
	f.run(t, "disk/read-only", b.ReadOnly != nil, func(t *testing.T) { f.disk(t, b.ReadOnly) })
	f.run(t, "writers", true, f.writers)
	f.run(t, "thousand", true, f.thousand)
	f.run(t, "killed", b.Kill != nil, f.killed)
}

type faults struct {
	Bench
	made atomic.Uint64 // chunks that were made for one use each
}

// run runs one test, after which nothing of it may be left, or says why there is none.
func (f *faults) run(t *testing.T, name string, can bool, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		why, without := f.Without[name]
		switch {
		case can == without:
			t.Fatal("a bench either can do it or says why it has no meaning")
		case without:
			t.Skipf("has no meaning here: %s", why)
		}
		before := leftovers()
		t.Run("test", test)
		var after [2]int
		for range 1000 { // what was told to end may be counted for a moment
			if after = leftovers(); after[0] <= before[0] && after[1] <= before[1] {
				return
			}
			runtime.GC() // a folder that nobody has any more is open until then
			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before; %d files and connections, %d before\n%s",
			after[0], before[0], after[1], before[1], stacks[:runtime.Stack(stacks, true)])
	})
}

// without says of which answers or refusals there are none, and why.
func (f *faults) without(t *testing.T, kind string) {
	for name, why := range f.Without {
		if rest, ok := strings.CutPrefix(name, kind); ok {
			t.Run(rest, func(t *testing.T) { t.Skipf("has no meaning here: %s", why) })
		}
	}
}

// leftovers counts goroutines, and what is open where that can be told.
func leftovers() [2]int {
	open, _ := os.ReadDir("/proc/self/fd")
	return [2]int{runtime.NumGoroutine(), len(open)}
}

// open opens the store until the end of the test.
func (f *faults) open(t testing.TB, way Way) Opened {
	t.Helper()
	return closed(t, f.Open(t, way))
}

// closed closes a store at the end of the test.
func closed(t testing.TB, s Opened) Opened {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// noise is the nth of many chunks, which no compression makes smaller.
func noise(n uint64, size int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], n+1)
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// plant puts a chunk there.
func (f *faults) plant(t testing.TB, plain []byte) {
	t.Helper()
	for name, content := range Objects(t, store.Form{}, plain) {
		f.Plant(t, name, content)
	}
}

// wantRight checks that all that has a chunk's name is that chunk.
func (f *faults) wantRight(t testing.TB) {
	t.Helper()
	form, chunks := store.Form{}, 0
	for name, content := range f.Objects(t) {
		id, err := chunker.ParseID(strings.TrimSuffix(name[strings.LastIndexByte(name, '/')+1:], ".cacnk"))
		if err != nil || name != form.Name(id) {
			continue // nobody takes it for one
		}
		chunks++
		c, err := fetch(t.Context(), store.Chunks(NewMemory(map[string][]byte{name: content}), form), store.Want{ID: id})
		if err != nil {
			t.Errorf("on the server: %v", err)
			continue
		}
		c.Release()
	}
	if chunks == 0 {
		t.Error("there is no chunk on the server")
	}
}

// get reads a chunk, of which no byte may be wrong.
func get(ctx context.Context, t testing.TB, s store.Store, plain []byte) error {
	t.Helper()
	c, err := fetch(ctx, s, Want(plain))
	if err != nil {
		return err
	}
	defer c.Release()
	if got, err := c.Plain(); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("wrong bytes (%d, want %d), error %v", len(got), len(plain), err)
	}
	return nil
}

// write puts a chunk, and returns when it is there.
func write(ctx context.Context, w store.Writer, plain []byte) error {
	c := store.NewChunk(Want(plain).ID, chunker.SHA512_256, plain, nil)
	defer c.Release()
	if err := w.Put(ctx, c); err != nil {
		return err
	}
	return w.Sync(ctx)
}

// insist does something until it succeeds, and fails if the error is final or a minute is
// over.
func insist(t testing.TB, what string, do func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := do()
		if err == nil {
			return
		}
		if store.Final(err) || time.Now().After(deadline) {
			t.Errorf("%s: %v", what, err)
			return
		}
	}
}

// works checks that what failed before goes again.
func works(t testing.TB, s Opened, there, new []byte) {
	t.Helper()
	insist(t, "reading when the fault is gone", func() error { return get(t.Context(), t, s, there) })
	if new == nil {
		return
	}
	insist(t, "writing when the fault is gone", func() error { return write(t.Context(), s, new) })
	insist(t, "reading what was written", func() error { return get(t.Context(), t, s, new) })
}

// wantLine checks that an error is one line that says where, and more.
func wantLine(t testing.TB, what string, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %q, want %q in it", what, err, s)
		}
	}
	if strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("%s: %q is more than one line", what, err)
	}
}

// wantPassing checks that an error is one that is worth another try.
func wantPassing(t testing.TB, what string, err error, says ...string) {
	t.Helper()
	wantLine(t, what, err, says...)
	if store.Final(err) {
		t.Errorf("%s: %v is final", what, err)
	}
}

// promptly fails if do takes longer than anything ever should.
func promptly(t testing.TB, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("%s: took %v", what, took)
	}
}

// all does something with each of many things, a few at the same time.
func all[T any](things []T, do func(i int, thing T)) {
	var wg sync.WaitGroup
	room := make(chan struct{}, 6)
	for i, thing := range things {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			do(i, thing)
		})
	}
	wg.Wait()
}

// wantKind checks what callers branch on; nil: that another try is worth it.
func wantKind(t testing.TB, what string, err, kind error) {
	t.Helper()
	if kind == nil && store.Final(err) || kind != nil && !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
	for _, other := range []error{store.ErrMissing, store.ErrRefused, store.ErrCorrupt} {
		if other != kind && errors.Is(err, other) {
			t.Errorf("%s: %v is taken for %v", what, err, other)
		}
	}
}

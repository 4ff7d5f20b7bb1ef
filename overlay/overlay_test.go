package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"caravel/overlay"
)

func TestSizes(t *testing.T) {
	for _, tt := range []struct{ base, size, block int64 }{
		{0, 0, 0}, {0, 1, 0}, {1, 0, 0}, {1, 5000, 0}, {4096, 0, 4096}, {4097, 0, 0}, {10_000, 70_001, 65536},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			base, path := noise(int(tt.base)), temp(t)
			opt := overlay.Options{Size: tt.size, Block: tt.block}
			d := open(t, path, base, tt.base, opt)
			want := make([]byte, max(tt.base, tt.size))
			copy(want, base.data)
			same(t, "new", content(t, d), want)
			if n := int64(len(want)); n > 0 {
				want[n-1] = 7
				write(t, d, []byte{7}, n-1)
				same(t, "written", content(t, d), want)
			}
			// Who does not say how large it is gets what is there.
			d = reopen(t, d, path, base, tt.base, overlay.Options{})
			same(t, "opened again", content(t, d), want)
			if err := d.Discard(t.Context(), 0, d.Size()); err != nil {
				t.Fatal(err)
			}
			clear(want)
			same(t, "discarded", content(t, d), want)
		})
	}
}

func TestOutside(t *testing.T) {
	base := noise(10_000)
	d := open(t, temp(t), base, 10_000, overlay.Options{})
	ctx, p := t.Context(), make([]byte, 10)
	for _, off := range []int64{-1, -1 << 63, 9_991, 10_001, 1<<63 - 1} {
		if n, err := d.WriteAt(ctx, p, off); n != 0 || err == nil || !strings.Contains(err.Error(), "outside of a disk of 10000") {
			t.Errorf("WriteAt %d: %d, %v", off, n, err)
		}
		if err := d.Zero(ctx, off, 10, true); err == nil {
			t.Errorf("Zero %d: no error", off)
		}
		if err := d.Discard(ctx, off, 10); err == nil {
			t.Errorf("Discard %d: no error", off)
		}
	}
	if err := d.Zero(ctx, 5, -1, false); err == nil {
		t.Error("Zero of -1 bytes: no error")
	}
	if n, err := d.ReadAt(ctx, p, 9_995); n != 5 || err != io.EOF {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	if n, err := d.ReadAt(ctx, p, -1); n != 0 || err == nil || err == io.EOF {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	for range d.Holes(-5, 1<<63-1) {
		t.Error("a hole")
	}
	same(t, "the disk", content(t, d), base.data)
}

// If the base cannot be read, the write fails that needs it, and nothing changes.
func TestBaseFails(t *testing.T) {
	const block = 4096
	base, broken := noise(10*block), errors.New("no network")
	var down bool
	base.fail = func(off, n int64) error {
		if down && off < 5*block {
			return broken
		}
		return nil
	}
	path := temp(t)
	d := open(t, path, base, 10*block, overlay.Options{})
	write(t, d, bytes.Repeat([]byte{1}, block), 4*block) // which has no need of it
	want := content(t, d)
	down = true
	if n, err := d.WriteAt(t.Context(), make([]byte, 3*block), 2*block-1); n != 0 || !errors.Is(err, broken) || !strings.Contains(err.Error(), "offset 4096 of the disk: filling a block") {
		t.Errorf("WriteAt: %d, %v", n, err)
	}
	if err := d.Zero(t.Context(), 4*block, 7, false); err != nil {
		t.Error(err)
	}
	clear(want[4*block : 4*block+7])
	if err := d.Zero(t.Context(), 3*block+1, 5*block, false); !errors.Is(err, broken) {
		t.Errorf("Zero: %v", err)
	}
	write(t, d, bytes.Repeat([]byte{2}, 2*block), 0)
	copy(want, bytes.Repeat([]byte{2}, 2*block))
	if n, err := d.ReadAt(t.Context(), make([]byte, 10*block), 0); n != 2*block || !errors.Is(err, broken) {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	down = false
	same(t, "the disk", content(t, d), want)
	d = reopen(t, d, path, base, 10*block, overlay.Options{})
	same(t, "opened again", content(t, d), want)
}

// While one waits for the base others go on, in other blocks; and who waits for
// him may leave.
func TestSlowBase(t *testing.T) {
	const block = 4096
	base := noise(10 * block)
	asked, release := make(chan struct{}), make(chan struct{})
	base.fail = func(off, n int64) error {
		if off == block {
			close(asked)
			<-release
		}
		return nil
	}
	d := open(t, temp(t), base, 10*block, overlay.Options{})
	var first sync.WaitGroup
	first.Go(func() { write(t, d, []byte{1}, 2*block-1) })
	<-asked
	write(t, d, []byte{2}, 3*block+1)
	write(t, d, []byte{3}, 0)
	if err := d.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := d.WriteAt(ctx, make([]byte, block), block)
		left <- err
	}()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	first.Wait()
	want := bytes.Clone(base.data)
	want[2*block-1], want[3*block+1], want[0] = 1, 2, 3
	same(t, "the disk", content(t, d), want)
}

func TestOpenTwice(t *testing.T) {
	path, base := temp(t), noise(5000)
	d := open(t, path, base, 5000, overlay.Options{})
	if _, err := overlay.Open(path, base, 5000, overlay.Options{}); err == nil || !strings.Contains(err.Error(), path+": in use") {
		t.Errorf("got %v", err)
	}
	d = reopen(t, d, path, base, 5000, overlay.Options{})
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	for _, err := range []error{d.Flush(t.Context()), d.Zero(t.Context(), 0, 1, false), second(d.WriteAt(t.Context(), []byte{1}, 0))} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("of one that is closed: %v", err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func second(_ int, err error) error { return err }

// Of many that make a file one has it; each of the others is told why not.
func TestCreateAtOnce(t *testing.T) {
	path, base := temp(t), noise(50_000)
	for range 30 {
		var all sync.WaitGroup
		var mu sync.Mutex
		var got []*overlay.Disk
		for range 6 {
			all.Go(func() {
				d, err := overlay.Open(path, base, 50_000, overlay.Options{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					got = append(got, d)
				} else if !strings.Contains(err.Error(), "in use") && !strings.Contains(err.Error(), "replaced") {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(got) != 1 {
			t.Fatalf("%d have it", len(got))
		}
		if err := errors.Join(got[0].Close(), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a process that was killed has left is begun anew; what is not ours is not
// touched.
func TestUnfinished(t *testing.T) {
	path, base := temp(t), noise(5000)
	for _, left := range []string{"", "caravel overlay\n and no more"} {
		if err := os.WriteFile(path+".new", []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		d := open(t, path, base, 5000, overlay.Options{})
		same(t, "the disk", content(t, d), base.data)
		if err := errors.Join(d.Close(), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path+".new", []byte("a letter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := overlay.Open(path, base, 5000, overlay.Options{}); err == nil || !strings.Contains(err.Error(), "disk.overlay.new: is in the way") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path + ".new"); err != nil || string(b) != "a letter" {
		t.Errorf("%q, %v", b, err)
	}
}

// Holes, Local and Want are of the file where something was written, and of the
// base elsewhere.
func TestHints(t *testing.T) {
	const block = 4096
	base := newKnowing(8*block, 2*block) // holes: 0 1 4 5; local: 2 3 6 7
	d := open(t, temp(t), base, 8*block, overlay.Options{Size: 10 * block})
	write(t, d, bytes.Repeat([]byte{1}, block), 1*block)
	if err := d.Zero(t.Context(), 2*block, block, false); err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(t.Context(), 4*block, 2*block); err != nil { // are zeros
		t.Fatal(err)
	}
	blocks := func(of func(off, n int64) func(func(int64, int64) bool)) (list []int64) {
		for at, size := range of(0, d.Size()) {
			for ; size > 0; at, size = at+block, size-block {
				list = append(list, at/block)
			}
		}
		return list
	}
	if got, want := blocks(func(off, n int64) func(func(int64, int64) bool) { return d.Local(off, n) }), []int64{1, 2, 3, 6, 7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("local: %v, not %v", got, want)
	}
	if got, want := blocks(func(off, n int64) func(func(int64, int64) bool) { return d.Holes(off, n) }), []int64{0, 2, 4, 5, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("holes: %v, not %v", got, want)
	}
	d.Want(100, 10*block-200)
	if got, want := fmt.Sprint(base.wants), fmt.Sprint([][2]int64{{100, block - 100}, {3 * block, 5 * block}}); got != want {
		t.Errorf("wanted: %v, not %v", got, want)
	}
}

// What the base has as zeros already takes no room in the file when it is zeroed
// or discarded, unless that is asked for.
func TestZeroOfZeros(t *testing.T) {
	base := newKnowing(1<<20, 1<<20) // one hole
	d := open(t, temp(t), base, 1<<20, overlay.Options{Size: 4 << 20})
	if err := errors.Join(d.Zero(t.Context(), 5, 2<<20, false), d.Discard(t.Context(), 0, d.Size())); err != nil {
		t.Fatal(err)
	}
	local := func() (sum int64) { // the base has nothing of it
		for _, n := range d.Local(0, 1<<20) {
			sum += n
		}
		return sum
	}
	if n := local(); n != 0 || base.reads.Load() != 0 {
		t.Errorf("%d bytes are in the file, %d reads of the base", n, base.reads.Load())
	}
	if err := d.Zero(t.Context(), 0, 1<<19, true); err != nil {
		t.Fatal(err)
	}
	if n := local(); n != 1<<19 {
		t.Errorf("%d bytes are in the file", n)
	}
	same(t, "the disk", content(t, d), make([]byte, 4<<20))
}

// A stopping base looks for what is local as far as an offset.
type stopping struct {
	*memory
	at int64
}

func (s stopping) Local(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		if off < s.at && !yield(off, min(n, s.at-off)) {
			return
		}
		if off+n > s.at {
			yield(max(off+1, s.at), 0)
		}
	}
}

// Where the base stops looking for what is local the disk does, whatever is known
// of what comes behind.
func TestLocalStops(t *testing.T) {
	const block = 4096
	base := stopping{noise(8 * block), 3*block + 10}
	d := open(t, temp(t), base, 8*block, overlay.Options{Size: 10 * block})
	look := func() (got string) {
		for at, size := range d.Local(0, d.Size()) {
			got += fmt.Sprint(at, "+", size, " ")
		}
		return got
	}
	if got, want := look(), "0+12298 12298+0 "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	write(t, d, []byte{1}, block)
	write(t, d, []byte{1}, 6*block)
	if got, want := look(), "0+4096 4096+4096 8192+4106 12298+0 "; got != want {
		t.Errorf("with blocks that are present: got %s, want %s", got, want)
	}
	write(t, d, make([]byte, block), 3*block) // what the base would stop at
	if got, want := look(), "0+4096 4096+4096 8192+4096 12288+4096 16385+0 "; got != want {
		t.Errorf("with the one that it stops in: got %s, want %s", got, want)
	}
}

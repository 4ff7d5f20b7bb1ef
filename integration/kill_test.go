//go:build linux

package integration

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
)

// ended says how a command that was signalled ended.
type ended struct {
	result
	signal syscall.Signal // that killed it; 0: it ended by itself
	took   time.Duration  // from the signal to the end
}

// interrupt runs caravel, sends it sig when now is closed, and waits.
func interrupt(t testing.TB, sig syscall.Signal, now <-chan struct{}, args ...string) ended {
	t.Helper()
	var stdout, stderr lockedBuffer
	cmd := exec.Command(caravel, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return interruptCommand(t, sig, now, cmd, &stdout, &stderr)
}

func interruptCommand(t testing.TB, sig syscall.Signal, now <-chan struct{}, cmd *exec.Cmd, stdout, stderr *lockedBuffer) ended {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(over)
	}()
	select {
	case <-now:
		_ = cmd.Process.Signal(sig) // it may just have ended
	case <-over:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Fatalf("%v: the moment to end it never came; stderr: %s", cmd.Args, stderr)
	}
	began := time.Now()
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-over
		t.Errorf("%v: does not end 20 s after %v; stderr: %s", cmd.Args, sig, stderr)
	}
	e := ended{result: result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, took: time.Since(began)}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		e.signal = ws.Signal()
	}
	return e
}

// after is closed when d has passed.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

// TestKillMake kills make at any moment: there is no index or the whole one,
// every chunk that has a name is good, and the next run ends as if nothing had
// been.
func TestKillMake(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	recipe{seed: 9, size: 1 << 20, kind: "random"}.write(t, path("image"))
	began := time.Now()
	must(t, caravel, "make", "--chunk-size=4K", "--store="+path("st.castr"), path("want.caibx"), path("image"))
	whole := time.Since(began)
	want := read(t, path("want.caibx"))
	if err := os.RemoveAll(path("st.castr")); err != nil {
		t.Fatal(err)
	}

	killed, complete := 0, 0
	for i := range times(20, 200) {
		index, store := path("x.caibx"), path("st.castr")
		make := []string{"make", "--chunk-size=4K", "--store=" + store, index, path("image")}
		e := interrupt(t, syscall.SIGKILL, after(time.Duration(rand.Int64N(int64(whole)))), make...)
		if e.signal == syscall.SIGKILL {
			killed++
		}
		if _, err := os.Stat(index); err == nil {
			complete++
			holds(t, index, want)
			must(t, caravel, "extract", "--no-sync", "--store="+store, index, path("early"))
			holds(t, path("early"), read(t, path("image")))
		}
		goodChunks(t, store, path("want.caibx"))
		must(t, caravel, make...)
		holds(t, index, want)
		must(t, caravel, "verify", "-s", store)
		clean(t, dir, "image", "want.caibx", "x.caibx", "early")
		must(t, caravel, "extract", "--no-sync", "--store="+store, index, path("out"))
		holds(t, path("out"), read(t, path("image")))
		if _, err := exec.LookPath("casync"); err == nil && i%5 == 0 {
			must(t, "casync", "extract", "--store="+store, index, path("theirs"))
			holds(t, path("theirs"), read(t, path("image")))
		}
		for _, name := range []string{"x.caibx", "out", "early", "theirs", "st.castr"} {
			if err := os.RemoveAll(path(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if killed == 0 {
		t.Errorf("no run was killed in time")
	}
	t.Logf("%d runs killed, %d of them after the index was there", killed, complete)
}

// goodChunks checks every chunk file of a store, by a copy of the index's
// chunks that are there.
func goodChunks(t *testing.T, store, index string) {
	t.Helper()
	if _, err := os.Stat(store); err != nil {
		return // killed before the first chunk
	}
	r := run(t, caravel, "digest", "--store="+store, index)
	if r.status != 0 && !strings.Contains(r.stderr, ": not in "+store) {
		t.Errorf("something else than a missing chunk: %s", r.stderr)
	}
}

// A tap is an origin that stops answering when told to.
type tap struct {
	*origin.Origin
	limit   atomic.Int64  // chunks that are answered; 0: all
	chunks  atomic.Int64  // asked for
	reached chan struct{} // closed when the first chunk beyond the limit is asked for
}

func newTap(t testing.TB, dir string) *tap {
	t.Helper()
	p := &tap{}
	o, err := origin.Start(dir, origin.Options{Faults: func(_ int64, path string) origin.Fault {
		limit := p.limit.Load()
		if !strings.HasSuffix(path, ".cacnk") {
			return origin.Fault{}
		}
		n := p.chunks.Add(1)
		if limit == 0 || n <= limit {
			return origin.Fault{}
		}
		if n == limit+1 {
			close(p.reached)
		}
		return origin.Fault{Kind: origin.Hang}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	p.Origin = o
	return p
}

// stopAfter lets n more chunks through and hangs at the next one, 0 at none.
func (p *tap) stopAfter(n int64) {
	p.reached = make(chan struct{})
	p.chunks.Store(0)
	p.limit.Store(n)
}

// TestEndExtract ends extract in the middle by every signal: the target is what
// it was, and the next run fetches only what is not there yet.
func TestEndExtract(t *testing.T) {
	d := newDisk(t, 4<<20)
	chunks := int64(len(d.chunks(t)))
	p := newTap(t, d.dir)
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	for i := range times(8, 120) {
		sig, existing := signals[i%4], i/4%2 == 1
		dir := t.TempDir()
		out := filepath.Join(dir, "out.img")
		if existing {
			if err := os.WriteFile(out, []byte("the former image"), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		let := 200 + rand.Int64N(chunks-300)
		p.stopAfter(let)
		args := []string{"extract", "--progress=none", p.URL() + "/disk.caibx", out}
		e := interrupt(t, sig, p.reached, args...)
		if existing {
			holds(t, out, []byte("the former image"))
		} else {
			absent(t, out)
		}
		if sig == syscall.SIGKILL {
			if e.signal != sig {
				t.Errorf("ended by itself: %+v", e)
			}
		} else {
			complaint(t, e.result, "caravel: interrupted")
			if e.took > 2*time.Second {
				t.Errorf("%v: took %s to end", sig, e.took)
			}
		}
		if left := leftovers(t, dir, "out.img"); len(left) != 1 || !strings.HasSuffix(left[0], ".part") {
			t.Errorf("%v: beside the target: %v, want one .part", sig, left)
		}

		p.stopAfter(0)
		var got struct{ Kept, Holes, Fetched int64 }
		if err := json.Unmarshal([]byte(must(t, caravel, append(args, "--json")...)), &got); err != nil {
			t.Fatal(err)
		}
		holds(t, out, d.data)
		clean(t, dir, "out.img")
		if got.Kept == 0 || got.Kept+got.Fetched != int64(len(d.data)) {
			t.Errorf("%v after %d chunks: %+v of %d", sig, let, got, len(d.data))
		}
		if again := p.chunks.Load(); again >= chunks || again > chunks-let+150 {
			t.Errorf("%v after %d of %d chunks: the next run fetched %d", sig, let, chunks, again)
		}
		if st, err := os.Stat(out); existing && (err != nil || st.Mode() != 0o640) {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
	}
}

// TestInterruptAtAnIdlePipe ends commands that wait for standard input: at
// once, with no index and nothing but good chunks left.
func TestInterruptAtAnIdlePipe(t *testing.T) {
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, tt := range []struct {
		sig   syscall.Signal
		input []byte
		args  []string
	}{
		{syscall.SIGINT, noise, []string{"make", "--progress=none", path("x.caibx"), "-"}},
		{syscall.SIGTERM, noise, []string{"make", "--progress=none", path("x.caibx"), "-"}},
		{syscall.SIGHUP, noise, []string{"digest", "-"}},
		{syscall.SIGINT, read(t, badIndexes+"/good.caibx")[:300], []string{"list-chunks", "-"}},
		{syscall.SIGINT, read(t, badIndexes+"/good.caibx")[:300], []string{"extract", "--progress=none", "--store=" + dir, "-", path("out")}},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		now := make(chan struct{})
		var stdout, stderr lockedBuffer
		cmd := exec.Command(caravel, tt.args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = r, &stdout, &stderr
		go func() {
			defer close(now)
			_, _ = w.Write(tt.input)
			for n := 1; n > 0; time.Sleep(time.Millisecond) { // until it has read all
				n, _ = unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ)
			}
		}()
		e := interruptCommand(t, tt.sig, now, cmd, &stdout, &stderr)
		complaint(t, e.result, "interrupted")
		if e.took > time.Second {
			t.Errorf("%v: took %s to end", tt.args, e.took)
		}
		clean(t, dir)
	}
}

// TestInterruptAtABlockedWriter ends a command whose reader has stopped reading.
func TestInterruptAtABlockedWriter(t *testing.T) {
	d := newDisk(t, 1<<20)
	for _, args := range [][]string{{"cat", d.index}, {"extract", "--progress=none", d.index, "-"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var stderr lockedBuffer
		cmd := exec.Command(caravel, args...)
		cmd.Stdout, cmd.Stderr = w, &stderr
		now := make(chan struct{})
		go func() {
			// One byte is here: the pipe is being filled.
			_, _ = r.Read(make([]byte, 1))
			close(now)
		}()
		e := interruptCommand(t, syscall.SIGINT, now, cmd, &lockedBuffer{}, &stderr)
		w.Close()
		complaint(t, e.result, "caravel: interrupted")
		if e.took > 2*time.Second {
			t.Errorf("%v: took %s to end", args, e.took)
		}
	}
}

// TestSecondSignal ends a command at once that the first one cannot: here it
// waits for somebody to open the other end of a pipe.
func TestSecondSignal(t *testing.T) {
	d := newDisk(t, 100_000)
	fifo := d.path("fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newTap(t, d.dir)
	cmd := start(t, caravel, "extract", p.URL()+"/disk.caibx", fifo)
	eventually(t, "the index is fetched", func() bool { return p.Counts().Requests > 0 })
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		_ = cmd.cmd.Process.Signal(sig) // the first one may do
	}
	began := time.Now()
	if status := cmd.wait(); status != 1 {
		t.Errorf("status %d; stderr: %s", status, cmd.stderr)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %s to end", took)
	}
}

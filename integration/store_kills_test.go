//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/store"
)

// TestStoreKills ends makes into every backend in the middle, and its server below one,
// as kill -9 does, and interrupts copies from and to it: no chunk ever has a name that is
// not its own, which verify proves, and the next run does what is left.
func TestStoreKills(t *testing.T) {
	for _, b := range benches {
		t.Run(b.name, func(t *testing.T) {
			k := &kills{b.start(t), newDisk(t, killSize, "--no-store")}
			for range times(1, 10) {
				t.Run("make", k.make)
				if k.Kill != nil {
					t.Run("server", k.server)
				}
			}
			if k.Line != nil {
				t.Run("cache", k.cache)
			}
		})
	}
}

// killSize is that of a disk which takes some seconds over a slow line.
const killSize = 700_000

type kills struct {
	*faultBench
	disk *disk
}

// at has a command reach the server over a slow line, and returns the store's URL for it.
func (k *kills) at(t *testing.T) (setup func(*exec.Cmd), url string) {
	t.Helper()
	if k.Line == nil {
		return nil, k.url("")
	}
	address := k.Line(t).(*line).slow(300_000).Address()
	return func(cmd *exec.Cmd) {
		if k.env != "" {
			cmd.Env = append(os.Environ(), k.env+"="+address)
		}
	}, k.url(address)
}

// args are those of a make.
func (k *kills) args(url string) []string {
	return []string{"make", "--progress=none", "--chunk-size=4K", "--store=" + url, k.disk.path("made.caibx"), k.disk.image}
}

// begin starts a make over a slow line, and returns when it has stored some chunks that
// were not there.
func (k *kills) begin(t *testing.T) *daemon {
	t.Helper()
	k.clear(t)
	setup, url := k.at(t)
	m := startWith(t, setup, caravel, k.args(url)...)
	eventually(t, "chunks are stored", func() bool {
		select {
		case <-m.exited:
			return true
		default:
		}
		return k.count(t) > 5
	})
	return m
}

// count is how many chunks are there.
func (k *kills) count(t testing.TB) (n int) {
	t.Helper()
	for _, name := range k.names(t) {
		if strings.HasSuffix(name, ".cacnk") && !store.Unfinished(name) {
			n++
		}
	}
	return n
}

// clear forgets what the make has made; the chunks are other ones each time.
func (k *kills) clear(t *testing.T) {
	t.Helper()
	k.disk = newDisk(t, killSize+k.count(t), "--no-store")
}

// verified checks that no chunk is bad, and how many there are at least.
func (k *kills) verified(t *testing.T, atLeast int) {
	t.Helper()
	r := run(t, caravel, "verify", "--json", "-s", k.looked)
	var v verification
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v in %q; %s", err, r.stdout, r.stderr)
	}
	if v.Bad != 0 || r.status != 0 || v.Chunks < int64(atLeast) {
		t.Errorf("verify: status %d, %d chunks, %d bad, want %d chunks; %s", r.status, v.Chunks, v.Bad, atLeast, r.stderr)
	}
}

// again makes it once more, to its end.
func (k *kills) again(t *testing.T) {
	t.Helper()
	must(t, caravel, k.args(k.url(""))...)
	holds(t, k.disk.path("made.caibx"), read(t, k.disk.index))
	k.verified(t, len(k.disk.chunks(t)))
	if got := must(t, caravel, "cat", "--store="+k.url(""), k.disk.index); got != string(k.disk.data) {
		t.Error("something else is read")
	}
}

func (k *kills) make(t *testing.T) {
	m := k.begin(t)
	_ = m.cmd.Process.Kill()
	<-m.exited
	if m.cmd.ProcessState.ExitCode() != 0 { // on a disk, it may have been done before
		absent(t, k.disk.path("made.caibx"))
	}
	k.verified(t, 1)
	k.again(t)
}

// server kills the server: the make waits for it, and says so if it has waited in vain.
func (k *kills) server(t *testing.T) {
	m := k.begin(t)
	k.Kill(t)()
	if status := m.wait(); status != 0 && status != 1 {
		t.Errorf("status %d: %s", status, m.stderr)
	} else if status == 0 {
		k.verified(t, len(k.disk.chunks(t)))
	}
	k.verified(t, 1)
	k.again(t)
}

// cache interrupts copies: from the store, and into it.
func (k *kills) cache(t *testing.T) {
	k.clear(t)
	must(t, caravel, k.args(k.url(""))...)
	near := filepath.Join(t.TempDir(), "near.castr")
	setup, url := k.at(t)
	c := startWith(t, setup, caravel, "cache", "-c", near, "-s", url, k.disk.index)
	eventually(t, "chunks come", func() bool {
		some, _ := filepath.Glob(near + "/*/*.cacnk")
		return len(some) > 3
	})
	k.interrupted(t, c)
	if n := readBack(t, near); n >= len(k.disk.chunks(t)) {
		t.Errorf("all %d are there", n)
	}
	must(t, caravel, "cache", "-c", near, "-s", k.url(""), k.disk.index)

	k.clear(t)
	must(t, caravel, "make", "--chunk-size=4K", "--store="+near, k.disk.path("made.caibx"), k.disk.image)
	before := k.count(t)
	c = startWith(t, setup, caravel, "cache", "-c", url, "-s", near, k.disk.index)
	eventually(t, "chunks go", func() bool { return k.count(t) > before+3 })
	k.interrupted(t, c)
	k.verified(t, before)
	must(t, caravel, "cache", "-c", k.url(""), "-s", near, k.disk.index)
	k.verified(t, before+len(k.disk.chunks(t)))
}

// interrupted is not done, and says so.
func (k *kills) interrupted(t *testing.T, c *daemon) {
	t.Helper()
	timely(t, "the end of what is interrupted", 30*time.Second, func() {
		if status := c.stop(syscall.SIGINT); status != 1 {
			t.Errorf("status %d, want 1; %s", status, c.stderr)
		}
	})
}

// killing ends a daemon, and all that it has started, and has the same command serve the
// same address again.
func killing(d **daemon, address string) func(t testing.TB) func() {
	return func(t testing.TB) func() {
		t.Helper()
		was := *d
		was.killAll()
		return func() {
			t.Helper()
			now := start(was.t, was.cmd.Args[0], was.cmd.Args[1:]...)
			was.t.Cleanup(now.killAll)
			now.answers(address)
			*d = now
		}
	}
}

// killAll kills a daemon, if it lives, and then all that it has started, and waits for
// their end.
func (d *daemon) killAll() {
	d.t.Helper()
	select {
	case <-d.exited:
	default:
		killBelow(d.t, d.cmd.Process.Pid)
		<-d.exited
	}
}

func killBelow(t testing.TB, pid int) {
	t.Helper()
	below := children(t, pid)
	_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
	for _, child := range below {
		killBelow(t, child)
	}
	eventually(t, "a killed process ends", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, _ := bytes.Cut(stat, []byte(") "))
		return err != nil || bytes.HasPrefix(state, []byte("Z"))
	})
}

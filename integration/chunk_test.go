//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestChunk prints what make cuts, and desync does.
func TestChunk(t *testing.T) {
	d := newDisk(t, 900_000)
	var want strings.Builder
	for _, p := range d.chunks(t) {
		fmt.Fprintf(&want, "%d\t%d\t%s\n", p.Start, p.Size, p.ID)
	}
	if got := must(t, caravel, "chunk", "--chunk-size=4K", d.image); got != want.String() {
		t.Errorf("prints\n%s, not\n%s", got, want.String())
	}
	complaint(t, run(t, caravel, "chunk", "--start=900001", d.image), "behind the end")
	piped := runWith(t, func(c *exec.Cmd) { c.Stdin = strings.NewReader(string(d.data)) }, caravel, "chunk", "-S", "100000", "-")
	if at := must(t, caravel, "chunk", "-S", "100000", d.image); piped.stdout != at || !strings.HasPrefix(at, "100000\t") {
		t.Errorf("of a pipe prints\n%s, not\n%s", piped.stdout, at)
	}
	if peer := os.Getenv("DESYNC"); peer != "" {
		for _, args := range [][]string{{"chunk", d.image}, {"chunk", "-S", "100000", "-m", "8:32:128", d.image}} {
			if ours, theirs := must(t, caravel, args...), must(t, peer, args...); ours != theirs {
				t.Errorf("%q: prints\n%s, not\n%s", args, ours, theirs)
			}
		}
	}
}

// TestCopyOnRead has a state, in desync's format, written by one mount, and the chunks in
// it fetched by another one before they are asked for.
func TestCopyOnRead(t *testing.T) {
	needFUSE(t)
	d := newDisk(t, 300_000)
	all := d.chunks(t)
	state, cor := d.path("state"), d.path("cor")
	mount := func(args ...string) (*daemon, string) {
		mnt := t.TempDir()
		p := start(t, caravel, append([]string{"mount-index", "--no-sweep", "--cor-file=" + cor}, append(args, d.index, mnt)...)...)
		p.line()
		unmountLater(t, mnt)
		return p, mnt + "/disk"
	}
	p, file := mount("--cor-state-save="+state, "--cor-state-init="+d.path("none"))
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	third := make([]byte, 1)
	if _, err := f.ReadAt(third, all[2].Start); err != nil || third[0] != d.data[all[2].Start] {
		t.Errorf("read %d, %v", third, err)
	}
	f.Close()
	p.ends(syscall.SIGINT, soon)
	bits := read(t, state)
	if len(bits) != (len(all)+7)/8 || bits[0]&4 == 0 {
		t.Fatalf("the state is %x", bits)
	}
	// Another one brings that, and nothing else, before anybody reads.
	if err := errors.Join(os.Remove(cor), os.Remove(cor+".map")); err != nil {
		t.Fatal(err)
	}
	p, _ = mount("--cor-state-init=" + state)
	eventually(t, "the third chunk comes", func() bool {
		b := read(t, cor)
		return bytes.Equal(b[all[2].Start:all[2].Start+all[2].Size], d.data[all[2].Start:all[2].Start+all[2].Size])
	})
	if b := read(t, cor); bytes.Equal(b, d.data) {
		t.Error("all came")
	}
	p.ends(syscall.SIGINT, soon)
}

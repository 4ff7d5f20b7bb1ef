//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/fusefs"
)

// hangingTree has an entry of each kind. Whatever asks about it below the
// folder "dir" hangs until it is cancelled or freed.
func hangingTree() (tr *fakeTree, started, cancelled chan int64, free chan struct{}) {
	tr = newFakeTree(best)
	dir := tr.dir(tree.Root, "dir")
	tr.add(dir, "file", catar.Entry{Mode: 0o100644, Size: 5, XAttrs: []catar.XAttr{{Name: "user.n", Value: []byte("v")}}})
	link := tr.add(tree.Root, "link", catar.Entry{Mode: 0o120777, Target: "dir"})
	attr := tr.add(tree.Root, "xattr", catar.Entry{Mode: 0o100644, XAttrs: []catar.XAttr{{Name: "user.n", Value: []byte("v")}}})
	file := tr.file(tree.Root, "zfile", 5) // at 605 of the stream; it hangs when it is to be confirmed
	started, cancelled, free = make(chan int64, 100), make(chan int64, 100), make(chan struct{})
	tr.before = func(ctx context.Context, op string, id tree.ID, name string) error {
		if id != dir && id != link && id != attr && id != file {
			return nil
		}
		started <- int64(id)
		select {
		case <-ctx.Done():
			cancelled <- int64(id)
			return context.Cause(ctx)
		case <-free:
			return nil
		}
	}
	return tr, started, cancelled, free
}

// waiting are commands that wait for something of a hangingTree.
var waiting = map[string]func(dir string) *exec.Cmd{
	"lookup":   func(dir string) *exec.Cmd { return exec.Command("stat", "-c", "%s", dir+"/dir/file") },
	"readdir":  func(dir string) *exec.Cmd { return exec.Command("ls", "-U", dir+"/dir") },
	"readlink": func(dir string) *exec.Cmd { return exec.Command("readlink", dir+"/link") },
	"read": func(dir string) *exec.Cmd {
		return exec.Command("dd", "if="+dir+"/zfile", "bs=4096", "iflag=direct", "status=none")
	},
	"getxattr": func(dir string) *exec.Cmd {
		return exec.Command("getfattr", "--absolute-names", "--only-values", "-n", "user.n", dir+"/xattr")
	},
}

func TestTreeKilledWaiter(t *testing.T) {
	need(t, "stat", "ls", "readlink", "getfattr", "dd")
	for name, command := range waiting {
		t.Run(name, func(t *testing.T) {
			tr, started, cancelled, _ := hangingTree()
			log := new(notes)
			m := mountedTree(t, tr, fusefs.Options{Log: log.logger()})
			cmd := command(m.Dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			receive(t, "asked", started)
			cmd.Process.Kill()
			receive(t, "cancelled", cancelled)
			cmd.Wait()
			if log.String() != "" {
				t.Errorf("what nobody wanted was logged:\n%s", log)
			}
		})
	}
}

// A signal that the process lives through is no reason to fail what it asked.
func TestTreeSignalledWaiter(t *testing.T) {
	need(t, "stat", "ls", "readlink", "getfattr", "dd")
	for name, out := range map[string]string{"read": string(want(605, 5)), "lookup": "5\n", "readdir": "file\n", "readlink": "dir\n", "getxattr": "v"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr, started, cancelled, free := hangingTree()
			m := mountedTree(t, tr, fusefs.Options{})
			cmd := waiting[name](m.Dir)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			receive(t, "asked", started)
			cmd.Process.Signal(syscall.SIGSTOP)
			cmd.Process.Signal(syscall.SIGCONT)
			select {
			case <-cancelled:
				t.Error("cancelled")
			case <-time.After(250 * time.Millisecond): // two looks at the process
			}
			close(free)
			if err := cmd.Wait(); err != nil || stdout.String() != out {
				t.Errorf("%v: %q, %q", err, &stdout, &stderr)
			}
		})
	}
}

func TestTreeUnmountWhileWaiting(t *testing.T) {
	need(t, "stat", "ls", "readlink", "getfattr", "dd")
	tr, started, cancelled, _ := hangingTree()
	m := mountedTree(t, tr, fusefs.Options{})
	var all sync.WaitGroup
	for name, command := range waiting {
		cmd := command(m.Dir)
		all.Go(func() {
			if err := cmd.Run(); err == nil {
				t.Errorf("%s succeeded", name)
			}
		})
		receive(t, name, started)
	}
	begin := time.Now()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 10*time.Second { // one, if the machine is not busy
		t.Errorf("unmounting took %v", d)
	}
	for range waiting {
		receive(t, "cancelled", cancelled)
	}
	all.Wait()
	if _, err := os.Stat(m.Dir + "/link"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after: %v", err)
	}
}

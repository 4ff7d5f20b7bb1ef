//go:build linux

package loop_test

import (
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/loop"
)

// stuck is a file system that never answers who opens its only file, or who reads it.
type stuck struct {
	fuse.RawFileSystem
	opens bool
}

// stuckFile is what the file is.
var stuckFile = fuse.Attr{Ino: 2, Size: 4096, Mode: unix.S_IFREG | 0o444}

func (stuck) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = stuckFile
	if in.NodeId == fuse.FUSE_ROOT_ID {
		out.Attr = fuse.Attr{Ino: in.NodeId, Mode: unix.S_IFDIR | 0o555}
	}
	return fuse.OK
}

func (stuck) Lookup(_ <-chan struct{}, _ *fuse.InHeader, _ string, out *fuse.EntryOut) fuse.Status {
	out.NodeId = 2
	out.Attr = stuckFile
	return fuse.OK
}

func (s stuck) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	if s.opens {
		return fuse.OK
	}
	fmt.Println("asked")
	select {}
}

func (stuck) Read(<-chan struct{}, *fuse.ReadIn, []byte) (fuse.ReadResult, fuse.Status) {
	fmt.Println("asked")
	select {}
}

// attachStuck attaches a file of a mount of its own and waits for ever: until it is
// open, or for the table of its partitions.
func attachStuck(dir, at string) {
	fs := stuck{fuse.NewDefaultRawFileSystem(), at == "read"}
	s, err := fuse.NewServer(fs, dir, &fuse.MountOptions{DirectMount: true})
	if err != nil {
		panic(err)
	}
	go s.Serve()
	_, err = loop.Attach(dir+"/disk", loop.Options{Partitions: true})
	panic(err)
}

// A process is killed that waits for itself.
func TestKilledWhileAttaching(t *testing.T) {
	canAttach(t, "umount")
	for _, at := range []string{"open", "read"} {
		t.Run(at, func(t *testing.T) {
			if at == "read" && !knowsPartitions(t) {
				t.Skipf("%s: this kernel knows no partitions, and reads nothing", t.Name())
			}
			killedWhileAttaching(t, at)
		})
	}
}

func killedWhileAttaching(t *testing.T, at string) {
	dir := t.TempDir()
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	cmd := self("LOOP_TEST_STUCK="+dir, "LOOP_TEST_STUCK_AT="+at)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("asked\n"))
	if _, err := io.ReadFull(out, line); err != nil {
		t.Error(err)
	}
	ended := make(chan struct{})
	go func() {
		kill(cmd)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it cannot be killed")
		_ = unix.Unmount(dir, unix.MNT_FORCE) // busy, but aborted
		<-ended
	}
}

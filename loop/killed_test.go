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

// stuck is a file system that never answers who opens its only file.
type stuck struct{ fuse.RawFileSystem }

func (stuck) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = fuse.Attr{Ino: in.NodeId, Mode: unix.S_IFDIR | 0o555}
	return fuse.OK
}

func (stuck) Lookup(_ <-chan struct{}, _ *fuse.InHeader, _ string, out *fuse.EntryOut) fuse.Status {
	out.NodeId = 2
	out.Attr = fuse.Attr{Ino: 2, Size: 512, Mode: unix.S_IFREG | 0o444}
	return fuse.OK
}

func (stuck) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	fmt.Println("opened")
	select {}
}

// attachStuck attaches a file of a mount of its own and waits for ever.
func attachStuck(dir string) {
	s, err := fuse.NewServer(stuck{fuse.NewDefaultRawFileSystem()}, dir, &fuse.MountOptions{DirectMount: true})
	if err != nil {
		panic(err)
	}
	go s.Serve()
	_, err = loop.Attach(dir+"/disk", loop.Options{})
	panic(err)
}

// A process is killed that waits for itself.
func TestKilledWhileAttaching(t *testing.T) {
	canAttach(t, "umount")
	dir := t.TempDir()
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	cmd := self("LOOP_TEST_STUCK=" + dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("opened\n"))
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

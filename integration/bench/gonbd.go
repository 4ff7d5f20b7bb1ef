//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/pojntfx/go-nbd/pkg/backend"
	gonbd "github.com/pojntfx/go-nbd/pkg/server"

	"caravel/nbd"
)

// asServer in the environment makes this program one of the servers that are
// measured: what it is called, the socket and the disk.
const asServer = "BENCH_SERVES"

// late is how long a chunk takes that is far away.
const late = 20 * time.Millisecond

// A slowFile is a disk all of whose reads take late; as go-nbd and as caravel want it.
type slowFile struct{ *backend.FileBackend }

func (f slowFile) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(late)
	return f.FileBackend.ReadAt(p, off)
}

type slowReader struct{ slowFile }

func (r slowReader) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return r.slowFile.ReadAt(p, off)
}

// serveDisk is the server of which go-nbd has only a library, or caravel's over a
// reader that is slow.
func serveDisk(name, socket, disk string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	file := backend.NewFileBackend(f)
	size, err := file.Size()
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if name == "caravel" {
		s, err := nbd.NewServer([]nbd.Export{{Size: size, Reader: slowReader{slowFile{file}}}}, nbd.Options{})
		if err != nil {
			return err
		}
		return s.Serve(context.Background(), l)
	}
	export := &gonbd.Export{Backend: file}
	if name == "go-nbd slow" {
		export.Backend = slowFile{file}
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		// Without multi-conn it says nothing of itself, which libnbd refuses.
		go gonbd.Handle(c, []*gonbd.Export{export}, &gonbd.Options{SupportsMultiConn: true})
	}
}

// serves starts this program as a server.
func (s *setting) serves(name string) func(socket string) []string {
	return func(socket string) []string {
		me, err := os.Executable()
		if err != nil {
			me = os.Args[0]
		}
		return []string{"env", fmt.Sprintf("%s=%s", asServer, name), me, socket, s.image}
	}
}

// goNBD measures go-nbd's own server and caravel's in turns: warm, over the same
// file, and where each read takes as long as from far away.
func (s *setting) goNBD() error {
	if !installed("fio") {
		return nil
	}
	file := func(socket string) []string { return []string{s.bin, "nbd-server", "--socket", socket, s.image} }
	fmt.Printf("\nfio, 4 KiB at random, one connection, go-nbd's server beside (reads a second)\n")
	// The file was just made, or read by the first one; nbdcopy waits for go-nbd for ever.
	warm := []diskServer{{"caravel, a plain file", file, false}, {"go-nbd, a plain file", s.serves("go-nbd"), false}}
	slow := []diskServer{{"caravel", s.serves("caravel"), false}, {"go-nbd", s.serves("go-nbd slow"), false}}
	for _, c := range []struct {
		name, goal string
		servers    []diskServer
		depth      int
	}{
		{"warm, depth 1", ">= 1 times go-nbd", warm, 1},
		{"warm, depth 16", ">= 1 times go-nbd", warm, 16},
		{"20 ms a read, depth 16", ">= 12 times go-nbd", slow, 16},
	} {
		if err := s.inTurn(c.servers, c.name, c.goal, func(uri string) (float64, error) { return fioNBD(uri, c.depth) }); err != nil {
			return err
		}
	}
	return nil
}

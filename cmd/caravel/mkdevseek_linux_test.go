package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"caravel/internal/claim"
	"caravel/nbd"
	"caravel/nbddev"
	"caravel/supervise"
)

type memoryDisk []byte

func (m memoryDisk) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

// TestTakeOverLinks goes on with as many links as the device had, though one was
// lost when the process before gave way.
func TestTakeOverLinks(t *testing.T) {
	if _, err := nbddev.List(); err != nil || os.Geteuid() != 0 {
		t.Skipf("no nbd devices: %v", err)
	}
	data := bytes.Repeat([]byte("caravel "), 8<<10)
	server, err := nbd.NewServer([]nbd.Export{{Name: "disk", Size: int64(len(data)), Reader: memoryDisk(data)}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opt := mkdevOptions{blockSize: 512, connections: 3, deadTimeout: time.Minute}
	opt.lazy.source.timeout = time.Second
	begun := func(boss *supervise.Supervisor) *nbdDevice {
		t.Helper()
		d := &nbdDevice{
			deviceImage: deviceImage{
				opt:      opt,
				node:     deviceNode{index: nbddev.Any},
				boss:     boss,
				identity: identityPrefix + "TestTakeOverLinks",
				log:      slog.New(slog.DiscardHandler),
			},
			size:   int64(len(data)),
			server: server,
		}
		if err := d.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		return d
	}
	links := func(d *nbdDevice) (all []*os.File) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			all, err := d.serving.Files()
			if err != nil {
				t.Fatal(err)
			}
			if len(all) == opt.connections {
				return all
			}
			supervise.Legacy{Files: all}.Close()
		}
		t.Fatalf("the device has not got %d links", opt.connections)
		return nil
	}

	first := begun(nil)
	if err := first.device.Announced(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := links(first)
	if err := first.serving.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := first.claim.Leave(); err != nil {
		t.Fatal(err)
	}
	left[2].Close()
	next := begun(&supervise.Supervisor{Legacy: supervise.Legacy{State: []byte(first.device.Path), Files: left[:2]}})
	defer next.end()
	if next.device.Path != first.device.Path {
		t.Errorf("%s, want %s again", next.device.Path, first.device.Path)
	}
	supervise.Legacy{Files: links(next)}.Close()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(next.device.Path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if r, err := claim.Find(claim.Dir, deviceName(next.device.Index)); err != nil || r.Connections != opt.connections {
		t.Errorf("record %+v, %v", r, err)
	}
}

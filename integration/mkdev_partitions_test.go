//go:build linux

package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMkdevPartitions finds the partitions of a GPT disk on a loop device, be it one
// that ends with its process or one that outlives it.
func TestMkdevPartitions(t *testing.T) {
	needLoop(t)
	_, data := nbdImage(t, 4, 4<<20)
	gpt(data, [][2]uint64{{64, 1000}, {2048, 4095}})
	image := filepath.Join(t.TempDir(), "gpt.img")
	writeFile(t, image, data)
	known := knowsGPT(t)
	for _, flags := range [][]string{nil, {"--supervise"}} {
		server, device := attached(t, append(flags, "--via=loop", image)...)
		if on := sysBlock(t, device, "loop/partscan"); on != "1" {
			t.Errorf("%q: partscan is %s", flags, on)
		}
		if known {
			holds(t, device+"p1", data[64*512:1001*512])
			holds(t, device+"p2", data[2048*512:4096*512])
			detachOfPart(t, device)
		}
		server.ends(syscall.SIGTERM, soon)
		if isAttached(device) {
			t.Errorf("%q: %s is still attached", flags, device)
		}
		absent(t, "/sys/block/"+filepath.Base(device)+"/"+filepath.Base(device)+"p1")
	}
	if !known {
		t.Skipf("%s: this kernel knows no such partitions; TestMkdevNBDInVM brings one that does", t.Name())
	}
}

// detachOfPart does not take away a device of which a part is in use.
func detachOfPart(t *testing.T, device string) {
	t.Helper()
	f, err := os.Open(device + "p1")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	complaint(t, run(t, caravel, "mkdev", "--detach", device), device, "in use", fmt.Sprint(os.Getpid()))
}

// knowsGPT reports whether the kernel knows such tables, as most do.
func knowsGPT(t *testing.T) bool {
	t.Helper()
	config, err := os.Open("/proc/config.gz")
	if err != nil {
		return true
	}
	defer config.Close()
	plain, err := gzip.NewReader(config)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(all, []byte("CONFIG_EFI_PARTITION=y"))
}

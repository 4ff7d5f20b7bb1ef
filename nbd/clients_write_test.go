package nbd_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/nbd"
)

// These tests have other people's clients write to the server.

// fileWriter is an export in a file that can be written to.
type fileWriter struct{ fileReader }

func (f fileWriter) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	return f.File.WriteAt(p, off)
}

func (f fileWriter) Zero(_ context.Context, off, n int64, _ bool) error {
	const piece = 1 << 20
	for ; n > 0; off, n = off+piece, n-piece {
		if _, err := f.File.WriteAt(make([]byte, min(n, piece)), off); err != nil {
			return err
		}
	}
	return nil
}

func (f fileWriter) Discard(context.Context, int64, int64) error { return nil }
func (f fileWriter) Flush(context.Context) error                 { return f.Sync() }

// writable serves a file of size zeros that can be written to, and returns its
// URI and its path.
func writable(t *testing.T, size int64) (uri, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	socket := serve(t, nbd.Options{}, nbd.Export{Name: "disk", Size: size, Reader: fileWriter{fileReader{f}}})
	return "nbd+unix:///disk?socket=" + socket, path
}

func TestClientsNbdinfoOfWritable(t *testing.T) {
	uri, _ := writable(t, 8*mib)
	wantInfo(t, uri, map[string]any{
		"export-size": 8. * mib, "is_read_only": false, "can_multi_conn": true,
		"can_fast_zero": false, "can_flush": true, "can_fua": true, "can_trim": true, "can_zero": true,
	})
}

// Copies into the export, of data and holes, over one connection and many.
func TestClientsNbdcopyInto(t *testing.T) {
	_, files := clientServer(t)
	for _, conns := range []string{"1", "8"} {
		for _, file := range files {
			uri, path := writable(t, clientSize)
			run(t, "nbdcopy", "--connections="+conns, "--flush", file, uri)
			sameFiles(t, path, file)
			back := filepath.Join(t.TempDir(), "back")
			run(t, "nbdcopy", "--connections="+conns, uri, back)
			sameFiles(t, back, file)
		}
	}
}

// From one server to the other, and qemu's way.
func TestClientsQemuImgInto(t *testing.T) {
	uris, files := clientServer(t)
	for i := range uris {
		uri, path := writable(t, clientSize)
		run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", uris[i], uri)
		sameFiles(t, path, files[i])
		if out := run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uris[i], uri); !strings.Contains(out, "identical") {
			t.Error(out)
		}
	}
}

func TestClientsQemuIOWrites(t *testing.T) {
	uri, _ := writable(t, 8*mib)
	out := run(t, "qemu-io", "-f", "raw",
		"-c", "write -P 0xa5 0 2M", "-c", "write -f -P 0x5a 1M 64k", "-c", "write -z 512k 128k", "-c", "write -z -u 700k 4k",
		"-c", "write -z -f 800k 4k", "-c", "discard 4M 1M", "-c", "flush", "-c", "aio_write -P 7 3M 512", "-c", "aio_flush",
		"-c", "read -P 0xa5 0 512k", "-c", "read -P 0 512k 128k", "-c", "read -P 0 700k 4k", "-c", "read -P 0 800k 4k",
		"-c", "read -P 0x5a 1M 64k", "-c", "read -P 7 3M 512", "-c", "read -P 0 3073k 1k", uri)
	if strings.Contains(out, "failed") || strings.Contains(out, "error") {
		t.Error(out)
	}
}

// fio writes what it can verify, at random and many requests at a time, and
// reads it all again.
func TestClientsFioWrites(t *testing.T) {
	if out := run(t, "fio", "--enghelp"); !strings.Contains(out, "\tnbd\n") {
		t.Skip("fio's nbd engine is not installed")
	}
	for _, how := range [][]string{
		{"--rw=randwrite", "--bs=4k", "--iodepth=64"},
		{"--rw=randwrite", "--bsrange=512-64k", "--iodepth=16", "--fsync=32"},
		{"--rw=write", "--bs=1M", "--iodepth=4"},
		{"--rw=randrw", "--bs=4k", "--iodepth=16"},
	} {
		uri, _ := writable(t, 16*mib)
		out := run(t, "fio", append([]string{"--name=v", "--ioengine=nbd", "--uri=" + uri, "--size=16M", "--verify=crc32c", "--verify_fatal=1", "--output-format=json"}, how...)...)
		var result struct {
			Jobs []struct {
				Error int
				Read  struct {
					Bytes int64 `json:"io_bytes"`
				}
			}
		}
		if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &result); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if j := result.Jobs[0]; j.Error != 0 || j.Read.Bytes == 0 {
			t.Errorf("%v: %+v", how, j)
		}
	}
}

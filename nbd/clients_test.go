package nbd_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"caravel/nbd"
)

// These tests have other people's clients talk to the server.

const clientSize = 40*mib + 4096

// clientServer serves "plain" and "sparse", and returns their URIs and a file
// with the content of each.
func clientServer(t *testing.T) (uris, files [2]string) {
	t.Helper()
	sparse := sparseReader{{mib, 7 * mib}, {20 * mib, 65536}, {36 * mib, clientSize - 36*mib}}
	socket := serve(t, nbd.Options{},
		nbd.Export{Name: "plain", Description: "all data", Size: clientSize, Reader: patternReader{}, Preferred: 64 << 10},
		nbd.Export{Name: "sparse", Size: clientSize, Reader: sparse})
	for i, r := range []nbd.Reader{patternReader{}, sparse} {
		b := make([]byte, clientSize)
		if _, err := r.ReadAt(t.Context(), b, 0); err != nil {
			t.Fatal(err)
		}
		files[i] = filepath.Join(t.TempDir(), "content")
		if err := os.WriteFile(files[i], b, 0o600); err != nil {
			t.Fatal(err)
		}
		uris[i] = fmt.Sprintf("nbd+unix:///%s?socket=%s", [2]string{"plain", "sparse"}[i], socket)
	}
	return uris, files
}

// run runs a program and returns its output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = t.TempDir() // fio leaves a file behind
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

func sameFiles(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("%s (%d bytes) and %s (%d bytes) differ", got, len(a), want, len(b))
	}
}

// Everything that nbdinfo has to say of a read-only export.
func TestClientsNbdinfo(t *testing.T) {
	uris, _ := clientServer(t)
	for i, own := range []map[string]any{
		{"export-name": "plain", "description": "all data", "contexts": []any{}, "block_size_preferred": 65536.},
		{"export-name": "sparse", "contexts": []any{"base:allocation"}, "block_size_preferred": 4096.},
	} {
		want := map[string]any{
			"uri": uris[i], "is_read_only": true, "is_rotational": false, "export-size": float64(clientSize),
			"can_cache": false, "can_df": true, "can_multi_conn": true,
			"can_fast_zero": false, "can_flush": false, "can_fua": false, "can_trim": false, "can_zero": false,
			"block_size_minimum": 1., "block_size_maximum": 32. * mib,
		}
		maps.Copy(want, own)
		wantInfo(t, uris[i], want)
	}
}

// wantInfo has nbdinfo look at an export, of which it may say more than is wanted.
func wantInfo(t *testing.T, uri string, want map[string]any) {
	t.Helper()
	var info struct {
		Protocol   string
		TLS        bool
		Structured bool
		Exports    []map[string]any
	}
	out := run(t, "nbdinfo", "--json", uri)
	if err := json.Unmarshal([]byte(out), &info); err != nil || len(info.Exports) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	if info.Protocol != "newstyle-fixed" || info.TLS || !info.Structured {
		t.Errorf("%s", out)
	}
	for field, value := range want {
		if got := info.Exports[0][field]; !reflect.DeepEqual(got, value) {
			t.Errorf("%s of %s: %v, want %v", field, uri, got, value)
		}
	}
}

func TestClientsNbdinfoList(t *testing.T) {
	uris, _ := clientServer(t)
	out := run(t, "nbdinfo", "--list", uris[0])
	if !strings.Contains(out, `export="plain"`) || !strings.Contains(out, `export="sparse"`) {
		t.Error(out)
	}
}

func TestClientsNbdinfoMap(t *testing.T) {
	uris, _ := clientServer(t)
	var runs []struct{ Offset, Length, Type int64 }
	out := run(t, "nbdinfo", "--map", "--json", uris[1])
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	want := "[{0 1048576 0} {1048576 7340032 3} {8388608 12582912 0} {20971520 65536 3} {21037056 16711680 0} {37748736 4198400 3}]"
	if got := fmt.Sprint(runs); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestClientsNbdcopy(t *testing.T) {
	uris, files := clientServer(t)
	for i := range uris {
		for _, conns := range []string{"1", "8"} {
			got := filepath.Join(t.TempDir(), "copy")
			run(t, "nbdcopy", "--connections="+conns, uris[i], got)
			sameFiles(t, got, files[i])
		}
	}
}

func TestClientsQemuImg(t *testing.T) {
	uris, files := clientServer(t)
	for i := range uris {
		if out := run(t, "qemu-img", "info", uris[i]); !strings.Contains(out, fmt.Sprintf("(%d bytes)", clientSize)) {
			t.Error(out)
		}
		if out := run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uris[i], files[i]); !strings.Contains(out, "identical") {
			t.Error(out)
		}
		got := filepath.Join(t.TempDir(), "copy")
		run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uris[i], got)
		sameFiles(t, got, files[i])
	}
}

func TestClientsQemuIO(t *testing.T) {
	uris, _ := clientServer(t)
	// Zeros in a hole, another byte beside it: qemu-io verifies both.
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0 1M 7M", "-c", fmt.Sprintf("read -P %d %d 1", pattern(mib-1), mib-1), uris[1])
	out := run(t, "qemu-io", "-r", "-f", "raw", "-c", fmt.Sprintf("read %d 512", clientSize-512), "-c", "aio_read 0 2M", "-c", "aio_read 3M 2M", "-c", "aio_flush", uris[0])
	if strings.Contains(out, "failed") {
		t.Error(out)
	}
}

func TestClientsNbdkit(t *testing.T) {
	uris, files := clientServer(t)
	if _, err := exec.LookPath("nbdcopy"); err != nil {
		t.Skip("nbdcopy is not installed")
	}
	// nbdkit's nbd plugin is a client here, and serves nbdcopy in its turn.
	got := filepath.Join(t.TempDir(), "copy")
	run(t, "nbdkit", "-r", "-U", "-", "nbd", "uri="+uris[1], "--run", `nbdcopy "$uri" `+got)
	sameFiles(t, got, files[1])
}

func TestClientsFio(t *testing.T) {
	if out := run(t, "fio", "--enghelp"); !strings.Contains(out, "\tnbd\n") {
		t.Skip("fio's nbd engine is not installed")
	}
	// What fio can verify was written by fio: one pass into a file, another
	// over NBD against the sums in the blocks.
	file := filepath.Join(t.TempDir(), "fio")
	job := []string{"--name=v", "--bs=4k", "--size=16M", "--verify=crc32c", "--verify_fatal=1", "--output-format=json"}
	run(t, "fio", append(job, "--rw=write", "--ioengine=psync", "--do_verify=0", "--filename="+file)...)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	socket := serve(t, nbd.Options{}, nbd.Export{Size: 16 * mib, Reader: fileReader{f}})
	uri := "nbd+unix:///?socket=" + socket
	for _, rw := range []string{"read", "randread"} {
		out := run(t, "fio", append(job, "--rw="+rw, "--ioengine=nbd", "--iodepth=16", "--uri="+uri)...)
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
		if j := result.Jobs[0]; j.Error != 0 || j.Read.Bytes != 16*mib {
			t.Errorf("%s: %+v", rw, j)
		}
	}
}

package nbd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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
	var info struct {
		Exports []struct {
			ReadOnly  bool `json:"is_read_only"`
			FastZero  bool `json:"can_fast_zero"`
			Flush     bool `json:"can_flush"`
			FUA       bool `json:"can_fua"`
			MultiConn bool `json:"can_multi_conn"`
			Trim      bool `json:"can_trim"`
			Zero      bool `json:"can_zero"`
		}
	}
	out := run(t, "nbdinfo", "--json", uri)
	if err := json.Unmarshal([]byte(out), &info); err != nil || len(info.Exports) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	if e := info.Exports[0]; e.ReadOnly || e.FastZero || !e.Flush || !e.FUA || !e.MultiConn || !e.Trim || !e.Zero {
		t.Errorf("%+v", e)
	}
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

// script runs a script of libnbd's in Python, h being the handle.
func script(t *testing.T, lines ...string) string {
	t.Helper()
	// Of several Pythons that of the system has libnbd.
	t.Setenv("PATH", "/usr/bin:"+os.Getenv("PATH"))
	try := exec.CommandContext(t.Context(), "nbdsh", "-c", "pass")
	try.Dir = t.TempDir() // not here: in Python a folder called nbd is a module
	if err := try.Run(); err != nil {
		t.Skipf("nbdsh is not installed: %v", err)
	}
	return run(t, "nbdsh", "-c", strings.Join(lines, "\n"))
}

// fails is a line of a script that has an error.
func fails(call, errno string) string {
	return fmt.Sprintf(`
try:
    %s
    print("no error: %[1]s")
except nbd.Error as e:
    if e.errno != "%[2]s": print("%[1]s: %%s, want %[2]s" %% e.errno)`, strings.ReplaceAll(call, `"`, `'`), errno)
}

// The requests as libnbd makes them, with its own checks off.
func TestClientsScriptWrites(t *testing.T) {
	uri, _ := writable(t, mib)
	ro, _ := clientServer(t)
	out := script(t,
		`h.connect_uri("`+uri+`")`,
		`h.set_strict_mode(0)`,
		`h.pwrite(b"x" * 70000, 5)`,
		`assert h.pread(70002, 4) == b"\0" + b"x" * 70000 + b"\0"`,
		`h.pwrite(b"y" * 512, 0, nbd.CMD_FLAG_FUA)`,
		`h.zero(100, 10, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)`,
		`assert h.pread(512, 0) == b"y" * 10 + b"\0" * 100 + b"y" * 402`,
		`h.trim(4096, 8192, nbd.CMD_FLAG_FUA)`,
		`h.flush()`,
		`h.pwrite(b"", 0)`,
		fails(`h.pwrite(b"z" * 11, h.get_size() - 10)`, "ENOSPC"),
		fails(`h.zero(11, h.get_size() - 10)`, "ENOSPC"),
		fails(`h.trim(11, h.get_size() - 10)`, "EINVAL"),
		fails(`h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)`, "EINVAL"),
		fails(`h.cache(512, 0)`, "EINVAL"),
		fails(`h.pread(11, h.get_size() - 10)`, "EINVAL"),
		// Many at once, answered in any order.
		`cookies = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i]) * 4096), i * 4096) for i in range(100)]`,
		`while h.aio_in_flight() > 0: h.poll(-1)`,
		`for i in range(100): assert h.pread(4096, i * 4096) == bytes([i]) * 4096`,
		`h.shutdown()`,
		// And where nothing can be written.
		`h = nbd.NBD()`,
		`h.connect_uri("`+ro[0]+`")`,
		`h.set_strict_mode(0)`,
		fails(`h.pwrite(b"z" * 100000, 0)`, "EPERM"),
		fails(`h.zero(512, 0)`, "EPERM"),
		fails(`h.trim(512, 0)`, "EPERM"),
		`h.flush()`,
		`assert len(h.pread(4096, 0)) == 4096`,
		`print("done")`)
	if out != "done\n" {
		t.Error(out)
	}
}

// The options as libnbd says them.
func TestClientsScriptOptions(t *testing.T) {
	reader := partialReader{sparseReader{{mib, mib}}, [][2]int64{{0, 4096}, {mib, mib}}}
	socket := serve(t, nbd.Options{}, nbd.Export{Name: "a", Description: "one", Size: 4 * mib, Reader: reader}, nbd.Export{Name: "b", Size: mib, Reader: patternReader{}})
	hidden := serve(t, nbd.Options{Unlisted: true}, nbd.Export{Name: "a", Size: mib, Reader: patternReader{}})
	out := script(t,
		`h.set_opt_mode(True)`,
		`h.connect_unix("`+socket+`")`,
		`seen = []`,
		`h.opt_list(lambda name, what: seen.append((name, what)))`,
		`assert seen == [("a", "one"), ("b", "")], seen`,
		`h.set_export_name("none")`,
		fails(`h.opt_info()`, "ENOENT"),
		`h.set_export_name("a")`,
		`h.set_full_info(True)`,
		`h.opt_info()`,
		`assert h.get_size() == 4 << 20 and h.get_canonical_export_name() == "a" and h.get_export_description() == "one"`,
		`assert h.get_block_size(nbd.SIZE_MINIMUM) == 1 and h.get_block_size(nbd.SIZE_MAXIMUM) == 32 << 20`,
		`def contexts():`,
		`    seen = []`,
		`    h.opt_list_meta_context(lambda name: seen.append(name))`,
		`    return seen`,
		`assert contexts() == ["base:allocation", "caravel:cached"], contexts()`,
		`h.add_meta_context("caravel:")`,
		`assert contexts() == ["caravel:cached"]`,
		`h.add_meta_context("base:allocation")`,
		`h.add_meta_context("caravel:cached")`,
		`h.opt_go()`,
		`assert h.can_meta_context("base:allocation") and h.can_meta_context("caravel:cached")`,
		`assert not h.can_meta_context("caravel:")`,
		`seen = {}`,
		`h.block_status(4 << 20, 0, lambda name, off, runs, err: seen.update({name: runs}))`,
		`assert seen == {"base:allocation": [1 << 20, 0, 1 << 20, 3, 2 << 20, 0], "caravel:cached": [4096, 1, (1 << 20) - 4096, 0, 1 << 20, 1, 2 << 20, 0]}, seen`,
		`h.block_status(4 << 20, 0, lambda name, off, runs, err: seen.update({name: runs}), nbd.CMD_FLAG_REQ_ONE)`,
		`assert seen == {"base:allocation": [1 << 20, 0], "caravel:cached": [4096, 1]}, seen`,
		`h.shutdown()`,
		`h = nbd.NBD()`,
		`h.set_opt_mode(True)`,
		`h.connect_unix("`+socket+`")`,
		`h.opt_abort()`,
		`h = nbd.NBD()`,
		`h.set_opt_mode(True)`,
		`h.connect_unix("`+hidden+`")`,
		fails(`h.opt_list(lambda name, what: print(name))`, "ENOTSUP"), // libnbd's word for ERR_POLICY
		`h.set_export_name("a")`,
		`h.opt_go()`,
		`assert h.get_size() == 1 << 20`,
		// Without structured replies there are no contexts, nor DF.
		`h = nbd.NBD()`,
		`h.set_request_structured_replies(False)`,
		`h.set_handshake_flags(0)`,
		`h.set_strict_mode(0)`,
		`h.connect_unix("`+socket+`")`,
		`assert not h.can_df()`,
		fails(`h.pread_structured(4096, 0, lambda *a: 0, nbd.CMD_FLAG_DF)`, "EINVAL"),
		`assert len(h.pread(4096, 0)) == 4096`,
		`print("done")`)
	if out != "done\n" {
		t.Error(out)
	}
}

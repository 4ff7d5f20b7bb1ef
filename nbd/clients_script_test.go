package nbd_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"caravel/nbd"
)

// These tests are scripts of libnbd's, of every option and every error.

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

// Errors leave the connection as it was, whatever they are.
func TestClientsScriptErrors(t *testing.T) {
	bad := readerFunc(func(ctx context.Context, p []byte, off int64) (int, error) {
		if off < mib+4096 && off+int64(len(p)) > mib {
			return max(0, int(mib-off)), errBad
		}
		return patternReader{}.ReadAt(ctx, p, off)
	})
	var wanted atomic.Int64
	hinted := struct {
		nbd.Reader
		wantFunc
	}{bad, func(off, n int64) { wanted.Add(n) }}
	socket := serve(t, nbd.Options{}, nbd.Export{Name: "a", Size: 64 * mib, Reader: hinted})
	secret := serve(t, nbd.Options{TLS: newAuthority(t).server(t), TLSRequired: true}, nbd.Export{Name: "a", Size: mib, Reader: bad})
	out := script(t,
		`import errno`,
		`h.set_strict_mode(0)`,
		`h.connect_unix("`+socket+`")`,
		fails(`h.pread(4096, 1 << 20)`, "EIO"),
		fails(`h.pread(1, (1 << 20) + 4095)`, "EIO"),
		`assert len(h.pread(4096, (1 << 20) + 4096)) == 4096`,
		`seen = []`,
		`def chunk(buf, off, kind, err): seen.append((off, kind, err.value))`,
		fails(`h.pread_structured(8192, (1 << 20) - 4096, chunk)`, "EIO"),
		`assert seen[-1][1:] == (nbd.READ_ERROR, errno.EIO), seen`,
		`assert (1 << 20) - 4096 <= seen[-1][0] < (1 << 20) + 4096, seen`,
		fails(`h.pread(33 << 20, 8 << 20)`, "EOVERFLOW"),
		fails(`h.pread(1, h.get_size())`, "EINVAL"),
		fails(`h.pread_structured(4096, 0, chunk, nbd.CMD_FLAG_FUA)`, "EINVAL"),
		`assert h.can_cache()`,
		`h.cache(4096, 1 << 20)`,
		fails(`h.cache(2, h.get_size() - 1)`, "EINVAL"),
		fails(`h.pwrite(b"x", 0)`, "EPERM"),
		`assert len(h.pread(32 << 20, 8 << 20)) == 32 << 20`,
		`h.shutdown()`,
		// Replies that have no structure know fewer errors.
		`h = nbd.NBD()`,
		`h.set_strict_mode(0)`,
		`h.set_request_structured_replies(False)`,
		`h.connect_unix("`+socket+`")`,
		fails(`h.pread(4096, 1 << 20)`, "EIO"),
		fails(`h.pread(33 << 20, 8 << 20)`, "EINVAL"),
		fails(`h.block_status(4096, 0, lambda *a: 0)`, "EINVAL"),
		`assert len(h.pread(4096, 0)) == 4096`,
		`h.shutdown()`,
		// TLS that there is not, and that has to be.
		`h = nbd.NBD()`,
		`h.set_tls(nbd.TLS_REQUIRE)`,
		refused(`h.connect_unix("`+socket+`")`),
		`h = nbd.NBD()`,
		`h.set_opt_mode(True)`,
		`h.connect_unix("`+secret+`")`,
		`h.set_export_name("a")`,
		refused(`h.opt_info()`),
		refused(`h.opt_list(lambda name, what: print(name))`),
		refused(`h.opt_go()`),
		`print("done")`)
	if out != "done\n" {
		t.Error(out)
	}
	if wanted.Load() != 4096 {
		t.Errorf("CACHE of %d bytes", wanted.Load())
	}
}

// refused is a line of a script that has an error, whichever it is.
func refused(call string) string {
	return fmt.Sprintf(`
try:
    %s
    print("no error: %s")
except nbd.Error: pass`, call, strings.ReplaceAll(call, `"`, `'`))
}

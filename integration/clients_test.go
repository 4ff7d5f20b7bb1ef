package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// startNBD starts caravel nbd-server and returns the URI that it says.
func startNBD(t testing.TB, args ...string) (*daemon, string) {
	t.Helper()
	d := start(t, caravel, append([]string{"nbd-server"}, args...)...)
	return d, d.expect("Serving: ")
}

// ends tells a server to end and checks that it does so, well and soon.
func (d *daemon) ends(sig syscall.Signal, limit time.Duration) {
	d.t.Helper()
	timely(d.t, fmt.Sprintf("%v of %s", sig, d.cmd.Args[1]), limit, func() {
		if status := d.stop(sig); status != 0 {
			d.t.Errorf("%v: status %d after %v, want 0; stderr: %s", d.cmd.Args, status, sig, d.stderr)
		}
	})
}

// soon is how long a daemon may take to end.
const soon = 5 * time.Second

// export is the URI of one export of a server, "" being the default one.
func export(uri, name string) string {
	if rest, ok := strings.CutPrefix(uri, "nbd+unix:///"); ok {
		return "nbd+unix:///" + name + rest
	}
	return strings.TrimSuffix(uri, "/") + "/" + name
}

// TestClients has everybody's clients read a sparse image, by socket and by TCP.
func TestClients(t *testing.T) {
	d := sparseDisk(t)
	socket := filepath.Join(shortDir(t), "nbd.sock")
	for _, where := range [][]string{{"--socket", socket}, {"--listen", "127.0.0.1:0"}} {
		t.Run(where[0], func(t *testing.T) {
			server, uri := startNBD(t, append(where, d.index)...)
			if where[0] == "--socket" && uri != "nbd+unix:///?socket="+socket {
				t.Errorf("Serving: %s", uri)
			}
			t.Run("nbdinfo", func(t *testing.T) { nbdinfo(t, uri, d) })
			t.Run("nbdcopy", func(t *testing.T) { nbdcopy(t, uri, d) })
			t.Run("qemu-img", func(t *testing.T) { qemuImg(t, uri, d) })
			t.Run("qemu-io", func(t *testing.T) { qemuIO(t, uri, d) })
			server.ends(syscall.SIGTERM, soon)
			absent(t, socket)
		})
	}
}

func nbdinfo(t *testing.T, uri string, d *disk) {
	need(t, "nbdinfo")
	var info struct {
		Exports []struct {
			Name     string `json:"export-name"`
			Size     int    `json:"export-size"`
			ReadOnly bool   `json:"is_read_only"`
			Multi    bool   `json:"can_multi_conn"`
			Block    int    `json:"block_size_preferred"`
			Contexts []string
		}
	}
	for _, uri := range []string{uri, export(uri, "disk")} {
		out := must(t, "nbdinfo", "--json", uri)
		if err := json.Unmarshal([]byte(out), &info); err != nil || len(info.Exports) != 1 {
			t.Fatalf("%v in %s", err, out)
		}
		e := info.Exports[0]
		if e.Size != len(d.data) || !e.ReadOnly || !e.Multi || e.Block != 16<<10 || fmt.Sprint(e.Contexts) != "[base:allocation caravel:cached]" {
			t.Errorf("%s: %+v", uri, e)
		}
	}
	if out := must(t, "nbdinfo", "--list", uri); !strings.Contains(out, `export="disk"`) || !strings.Contains(out, d.index) {
		t.Errorf("list: %s", out)
	}
	var runs []struct{ Offset, Length, Type int }
	out := must(t, "nbdinfo", "--map", "--json", uri)
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	at, holes := 0, 0
	for _, r := range runs {
		if r.Offset != at || at+r.Length > len(d.data) {
			t.Fatalf("map: %+v", runs)
		}
		at += r.Length
		if r.Type == 0 {
			continue
		}
		holes += r.Length
		if len(bytes.Trim(d.data[r.Offset:at], "\x00")) > 0 {
			t.Errorf("map: %+v is no hole", r)
		}
	}
	if at != len(d.data) || holes < len(d.data)/4 {
		t.Errorf("map: %d bytes, %d of holes, of an image of %d", at, holes, len(d.data))
	}
}

func nbdcopy(t *testing.T, uri string, d *disk) {
	need(t, "nbdcopy")
	out := filepath.Join(t.TempDir(), "out")
	for _, conns := range []string{"1", "8"} {
		must(t, "nbdcopy", "--connections="+conns, uri, out)
		holds(t, out, d.data)
	}
}

func qemuImg(t *testing.T, uri string, d *disk) {
	need(t, "qemu-img")
	// To qemu a disk is made of sectors; behind the end it sees zeros.
	size := (len(d.data) + 511) &^ 511
	out := must(t, "qemu-img", "info", "--output=json", uri)
	var info struct {
		Size int `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil || info.Size != size {
		t.Errorf("info: %v, size %d, want %d", err, info.Size, size)
	}
	if out := must(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uri, d.image); !strings.Contains(out, "identical") {
		t.Errorf("compare: %s", out)
	}
	copied := filepath.Join(t.TempDir(), "out")
	must(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uri, copied)
	holds(t, copied, append(bytes.Clone(d.data), make([]byte, size-len(d.data))...))
	var runs []struct {
		Start, Length int
		Zero          bool
	}
	out = must(t, "qemu-img", "map", "--output=json", "-f", "raw", uri)
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	holes := 0
	for _, r := range runs {
		if !r.Zero {
			continue
		}
		holes += r.Length
		if end := min(r.Start+r.Length, len(d.data)); len(bytes.Trim(d.data[r.Start:end], "\x00")) > 0 {
			t.Errorf("map: %+v is no hole", r)
		}
	}
	if holes < len(d.data)/4 {
		t.Errorf("map: %d bytes of holes", holes)
	}
}

// qemuIO reads on one connection at places in no order. qemu-io prints what it
// reads as hexdump -C does.
func qemuIO(t *testing.T, uri string, d *disk) {
	need(t, "qemu-io")
	args := []string{"-r", "-f", "raw"}
	var want strings.Builder
	for i := range 200 {
		off := (i * 1_600_033) % (len(d.data) - 4096)
		args = append(args, "-c", fmt.Sprintf("read -v %d 64", off))
		for line := off; line < off+64; line += 16 {
			fmt.Fprintf(&want, "%08x:  % x\n", line, d.data[line:line+16])
		}
	}
	var got strings.Builder
	for line := range strings.Lines(must(t, "qemu-io", append(args, uri)...)) {
		if len(line) > 58 && line[8] == ':' {
			got.WriteString(line[:58] + "\n")
		}
	}
	if got.String() != want.String() {
		t.Errorf("read %d lines, want these %d: %.200s\nnot %.200s", strings.Count(got.String(), "\n"), strings.Count(want.String(), "\n"), &want, &got)
	}
}

// TestFio reads in order and at random what fio itself has written with
// checksums, many requests at a time.
func TestFio(t *testing.T) {
	need(t, "fio")
	if !strings.Contains(must(t, "fio", "--enghelp"), "nbd") {
		t.Skip("fio has no nbd engine")
	}
	common := []string{"--name=job", "--bs=4k", "--size=4m", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--thread", "--output-format=json"}
	d := cut(t, func(path string) {
		must(t, "fio", append(common, "--filename="+path, "--rw=write", "--do_verify=0")...)
	})
	_, uri := startNBD(t, "--listen", "127.0.0.1:0", d.index)
	for _, how := range [][]string{
		{"--rw=read", "--iodepth=1"},
		{"--rw=read", "--iodepth=32"},
		{"--rw=randread", "--iodepth=32"},
		{"--rw=randread", "--iodepth=8", "--numjobs=4"},
	} {
		var report struct {
			Jobs []struct {
				Error int
				Read  struct {
					Bytes int `json:"io_bytes"`
				}
			}
		}
		out := must(t, "fio", append(append(common, "--ioengine=nbd", "--uri="+uri), how...)...)
		if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &report); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		for _, job := range report.Jobs {
			if job.Error != 0 || job.Read.Bytes != len(d.data) {
				t.Errorf("%v: %+v", how, report)
			}
		}
	}
}

// TestExports serves several images and a plain file; the first is what a
// client gets that names none.
func TestExports(t *testing.T) {
	need(t, "nbdcopy", "nbdinfo")
	a, b := newDisk(t, 300_000), newDisk(t, 200_000)
	first, second := a.path("first.caibx"), b.path("second.caibx")
	for _, move := range [][2]string{{a.index, first}, {b.index, second}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
	plain := filepath.Join(t.TempDir(), "plain.img")
	recipe{seed: 9, size: 100_001, kind: "random"}.write(t, plain)
	o := serveDir(t, b.dir, origin.Options{})
	_, uri := startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), first, o.URL()+"/second.caibx", plain)
	out := filepath.Join(t.TempDir(), "out")
	for name, want := range map[string][]byte{"": a.data, "first": a.data, "second": b.data, "plain": read(t, plain)} {
		must(t, "nbdcopy", export(uri, name), out)
		holds(t, out, want)
	}
	list := must(t, "nbdinfo", "--list", uri)
	for _, name := range []string{"first", "second", "plain"} {
		if !strings.Contains(list, fmt.Sprintf("export=%q", name)) {
			t.Errorf("%s is not in %s", name, list)
		}
	}
	if r := run(t, "nbdinfo", export(uri, "third")); r.status == 0 {
		t.Error("an export that is not there was found")
	}

	complaintOf(t, run(t, caravel, "nbd-server", "--listen", "127.0.0.1:0", first, plain, first), 2, first, "named twice")
}

// TestKilledClient leaves the other clients alone.
func TestKilledClient(t *testing.T) {
	need(t, "nbdcopy")
	d := newDisk(t, 2_000_000)
	faults, hangs := from(100, origin.Fault{Kind: origin.Hang})
	o := serveDir(t, d.dir, origin.Options{Faults: faults})
	server, uri := startNBD(t, "--listen", "127.0.0.1:0", "--extra-store", d.store, "--timeout=2s", o.URL()+"/disk.caibx")
	client := start(t, "nbdcopy", uri, filepath.Join(t.TempDir(), "out"))
	waitFor(t, "reading", hangs)
	if err := client.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	client.wait()
	out := filepath.Join(t.TempDir(), "out") // from the other store
	if r := run(t, "nbdcopy", uri, out); r.status != 0 {
		t.Fatalf("status %d: %s; server: %s", r.status, r.stderr, server.stderr)
	}
	holds(t, out, d.data)
	server.ends(syscall.SIGTERM, soon)
}

// TestCorruptChunkOverNBD is an I/O error for its range, on a connection that
// goes on.
func TestCorruptChunkOverNBD(t *testing.T) {
	need(t, "nbdcopy", "qemu-io")
	d := newDisk(t, 500_000)
	chunks := d.chunks(t)
	bad := chunks[len(chunks)/2]
	good := read(t, bad.file(d.store))
	spoil(t, bad.file(d.store))
	server, uri := startNBD(t, "--listen", "127.0.0.1:0", d.index)

	out := filepath.Join(t.TempDir(), "out")
	r := run(t, "nbdcopy", uri, out)
	if r.status == 0 || !strings.Contains(r.stderr, "Input/output error") {
		t.Errorf("nbdcopy: status %d: %s", r.status, r.stderr)
	}
	// qemu-io stops at the first error unless it is told that by a script.
	r = runWith(t, script(
		fmt.Sprintf("read %d 1", bad.Start),
		fmt.Sprintf("read %d 1", bad.Start+bad.Size-1),
		"read 0 64k",
		fmt.Sprintf("read %d 1", bad.Start-1),
		fmt.Sprintf("read %d 1", bad.Start+bad.Size),
		fmt.Sprintf("read %d 1", bad.Start+1),
		"read 400k 10k",
	), "qemu-io", "-r", "-f", "raw", uri)
	var got []string
	for line := range strings.Lines(r.stdout) {
		switch {
		case strings.Contains(line, "Input/output error"):
			got = append(got, "bad")
		case strings.Contains(line, "read 1/1 bytes"), strings.Contains(line, "read 65536/"), strings.Contains(line, "read 10240/"):
			got = append(got, "good")
		}
	}
	if want := "[bad bad good good good bad good]"; fmt.Sprint(got) != want {
		t.Errorf("read %v, want %s:\n%s", got, want, r.stdout)
	}
	if log := server.stderr.String(); !strings.Contains(log, bad.ID) {
		t.Errorf("the log does not name the chunk: %s", log)
	}

	// The next read tries again.
	replace(t, bad.file(d.store), good)
	must(t, "nbdcopy", uri, out)
	holds(t, out, d.data)
	server.ends(syscall.SIGTERM, soon)
}

// TestEndWhileClientsRead ends a server of which clients want something: in
// seconds, also when the store does not answer any more.
func TestEndWhileClientsRead(t *testing.T) {
	need(t, "nbdcopy")
	d := newDisk(t, 2_000_000)
	for _, tt := range []struct {
		sig   syscall.Signal
		fault origin.Fault
	}{
		{syscall.SIGINT, origin.Fault{}},
		{syscall.SIGTERM, origin.Fault{Kind: origin.Hang}},
	} {
		faults, reading := from(50, tt.fault)
		o := serveDir(t, d.dir, origin.Options{RTT: 20 * time.Millisecond, Faults: faults})
		socket := filepath.Join(shortDir(t), "s")
		server, uri := startNBD(t, "--socket", socket, o.URL()+"/disk.caibx")
		out := filepath.Join(t.TempDir(), "out")
		client := start(t, "nbdcopy", uri, out)
		waitFor(t, "reading", reading)
		server.ends(tt.sig, soon)
		// What was in flight is answered; that may have been all that was left.
		if status := client.wait(); status == 0 {
			holds(t, out, d.data)
			if tt.fault.Kind == origin.Hang {
				t.Error("nbdcopy has all of what hangs")
			}
		}
		absent(t, socket)
	}
}

// TestSocket is its owner's alone, and takes the place of no other file.
func TestSocket(t *testing.T) {
	d := newDisk(t, 10_000)
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	server, _ := startNBD(t, "--socket", socket, d.index)
	st, err := os.Lstat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if want := fs.ModeSocket | 0o600; st.Mode() != want {
		t.Errorf("mode %v, want %v", st.Mode(), want)
	}
	server.ends(syscall.SIGINT, soon)
	absent(t, socket)

	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	complaint(t, run(t, caravel, "nbd-server", "--socket", socket, d.index), socket)
	holds(t, socket, []byte("precious"))
	complaint(t, run(t, caravel, "nbd-server", "--socket", filepath.Join(dir, "none", "s"), d.index), "none")
}

// TestAddressInUse says which.
func TestAddressInUse(t *testing.T) {
	d := newDisk(t, 10_000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	complaint(t, run(t, caravel, "nbd-server", "--listen", l.Addr().String(), d.index), l.Addr().String(), "in use")
	complaintOf(t, run(t, caravel, "nbd-server", "--listen", "127.0.0.1:99999", d.index), 2, "99999")
}

// TestOneReadFetchesLittle reads 4 KiB by NBD: the index travels, and the
// chunks that hold them.
func TestOneReadFetchesLittle(t *testing.T) {
	need(t, "qemu-io")
	r := recipe{seed: 3, size: 4_000_000, kind: "random"}
	d := cut(t, func(path string) { r.write(t, path) })
	o := serveDir(t, d.dir, origin.Options{})
	_, uri := startNBD(t, "--profile=none", "--listen", "127.0.0.1:0", o.URL()+"/disk.caibx")
	if n := o.Counts().Requests; n != 1 {
		t.Errorf("%d requests before a read, want that of the index", n)
	}
	must(t, "qemu-io", "-r", "-f", "raw", "-c", "read 1M 4k", uri)
	if n := o.Counts().Requests; n < 2 || n > 3 {
		t.Errorf("%d requests: %v", n, o.Counts().Paths)
	}
}

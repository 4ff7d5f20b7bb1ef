//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

func TestContents(t *testing.T) {
	need(t, "cmp", "dd")
	for _, size := range []int64{0, 1, 511, 4095, 4096, 4097, 131072, 1<<20 + 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			_, f := patternFile(size)
			_, path := mounted(t, f, fusefs.Options{})
			original := filepath.Join(t.TempDir(), "original")
			if err := os.WriteFile(original, want(0, int(size)), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "cmp", original, path)
			for _, bs := range []string{"1000", "4097", "1M"} {
				out := filepath.Join(t.TempDir(), "copy")
				run(t, "dd", "if="+path, "of="+out, "bs="+bs, "status=none")
				run(t, "cmp", original, out)
			}
			out := filepath.Join(t.TempDir(), "direct")
			run(t, "dd", "if="+path, "of="+out, "bs=64k", "iflag=direct", "status=none")
			run(t, "cmp", original, out)
		})
	}
}

// By another process: one that maps a file of its own mount can wait for
// itself in a page fault, which the runtime does not see.
func TestMap(t *testing.T) {
	const size = 300_001
	_, f := patternFile(size)
	_, path := mounted(t, f, fusefs.Options{})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "FUSEFS_TEST_MAP="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, want(0, size)) {
		t.Errorf("mapped: %d bytes, %v", len(out), err)
	}
}

// printMapped writes what it sees of a file through a mapping.
func printMapped(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	_, err = os.Stdout.Write(bytes.Clone(b))
	return err
}

func TestAttributes(t *testing.T) {
	const size = 10_000
	when := time.Unix(1_600_000_000, 123_456_789)
	_, f := patternFile(size)
	f.Name, f.Mode, f.ModTime, f.UID, f.GID = "a", 0o640, when, 12, 34
	m, path := mounted(t, f, fusefs.Options{FSName: "an image, of mine"})

	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != size || st.Blocks != 20 || st.Nlink != 1 || st.Ino != 2 || st.Mode != unix.S_IFREG|0o640 || st.Uid != 12 || st.Gid != 34 {
		t.Errorf("file: %+v", st)
	}
	if st.Mtim.Nano() != when.UnixNano() {
		t.Errorf("mtime %d, want %d", st.Mtim.Nano(), when.UnixNano())
	}
	if err := unix.Lstat(m.Dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Nlink != 2 || st.Ino != 1 || st.Mode != unix.S_IFDIR|0o555 {
		t.Errorf("root: %+v", st)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Blocks != 3 || fs.Bfree != 0 || fs.Bsize != 4096 || fs.Files != 2 || fs.Ffree != 0 || fs.Namelen != 255 {
		t.Errorf("statfs: %+v", fs)
	}
	if os.Geteuid() == 0 {
		table, _ := os.ReadFile("/proc/self/mounts")
		line := `an\040image,\040of\040mine ` + m.Dir + " fuse.caravel ro,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576 0 0\n"
		if !strings.Contains(string(table), line) {
			t.Errorf("no line %q in\n%s", line, table)
		}
	}
	for range 2 { // from here, then from the kernel's cache
		names, err := os.ReadDir(m.Dir)
		if err != nil || len(names) != 1 || names[0].Name() != "a" || !names[0].Type().IsRegular() {
			t.Errorf("ReadDir: %v, %v", names, err)
		}
		if _, err := os.Stat(path + "b"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("stat of what is not there: %v", err)
		}
	}
	if _, err := unix.Getxattr(path, "user.a", nil); err != unix.EOPNOTSUPP {
		t.Errorf("getxattr: %v", err)
	}
}

func TestReadAhead(t *testing.T) {
	needRoot(t)
	_, f := patternFile(100)
	m, _ := mounted(t, f, fusefs.Options{MaxReadAhead: 1 << 20})
	var st unix.Stat_t
	if err := unix.Stat(m.Dir, &st); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	if b, err := os.ReadFile(name); err != nil || string(b) != "1024\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestReadOnly(t *testing.T) {
	_, f := patternFile(100)
	m, path := mounted(t, f, fusefs.Options{})
	_, create := os.Create(filepath.Join(m.Dir, "new"))
	_, write := os.OpenFile(path, os.O_WRONLY, 0)
	for name, err := range map[string]error{
		"create": create, "open for writing": write,
		"remove": os.Remove(path), "chmod": os.Chmod(path, 0o777), "truncate": os.Truncate(path, 0),
		"mkdir": os.Mkdir(filepath.Join(m.Dir, "dir"), 0o777), "rename": os.Rename(path, path+"2"),
		"link": os.Link(path, path+"3"), "utimes": os.Chtimes(path, time.Now(), time.Now()),
		"setxattr": unix.Setxattr(path, "user.a", []byte("b"), 0),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a b,c\\d\te", "\xff\xfe", "-o", "\n", strings.Repeat("n", 255), ".hidden", "…"} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			_, f := patternFile(5000)
			f.Name = name
			m, path := mounted(t, f, fusefs.Options{})
			names, err := os.ReadDir(m.Dir)
			if err != nil || len(names) != 1 || names[0].Name() != name {
				t.Errorf("ReadDir: %v, %v", names, err)
			}
			b, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(b, want(0, 5000)) {
				t.Errorf("read %d bytes, %v", len(b), err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	canMount(t)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, good := patternFile(1)
	good.Name = "a"
	with := func(change func(*fusefs.File)) fusefs.File { f := good; change(&f); return f }
	for _, tt := range []struct {
		name, dir string
		file      fusefs.File
		want      string
	}{
		{"no name", dir, with(func(f *fusefs.File) { f.Name = "" }), `"": no name for a file`},
		{"dots", dir, with(func(f *fusefs.File) { f.Name = ".." }), `"..": no name for a file`},
		{"slash", dir, with(func(f *fusefs.File) { f.Name = "a/b" }), `"a/b": no name for a file`},
		{"long", dir, with(func(f *fusefs.File) { f.Name = strings.Repeat("n", 256) }), `no name for a file`},
		{"size", dir, with(func(f *fusefs.File) { f.Size = -1 }), "size -1"},
		{"reader", dir, with(func(f *fusefs.File) { f.Reader = nil }), "no reader"},
		{"no directory", dir + "/none", good, "/none: no such file or directory"},
		{"a file", file, good, file + ": not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := fusefs.MountFile(tt.dir, tt.file, fusefs.Options{})
			if err == nil {
				m.Unmount()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// "More than 2^40" and a file of holes are the same to the kernel.
func TestHuge(t *testing.T) {
	const size = 1<<43 + 5
	_, f := patternFile(size)
	_, path := mounted(t, f, fusefs.Options{})
	st, err := os.Stat(path)
	if err != nil || st.Size() != size {
		t.Fatalf("%v, %v", st, err)
	}
	for _, off := range []int64{0, 1<<32 - 100, 1<<42 + 77, size - 200} {
		b, err := pread(path, off, 300)
		if n := min(300, size-off); err != nil || !bytes.Equal(b, want(off, int(n))) {
			t.Errorf("at %d: %d bytes, %v", off, len(b), err)
		}
	}
	if b, err := pread(path, size, 10); err != nil || len(b) != 0 {
		t.Errorf("at the end: %d bytes, %v", len(b), err)
	}
}

func TestManyReaders(t *testing.T) {
	const size = 8 << 20
	_, f := patternFile(size)
	_, path := mounted(t, f, fusefs.Options{})
	var wg sync.WaitGroup
	for seed := range uint64(16) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 0))
			for range 200 {
				off, n := rnd.Int64N(size), 1+rnd.IntN(40_000)
				b, err := pread(path, off, n)
				if err != nil || !bytes.Equal(b, want(off, int(min(int64(n), size-off)))) {
					t.Errorf("at %d+%d: %d bytes, %v", off, n, len(b), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// What has been read stays in the kernel, also for the next who opens.
func TestKernelKeeps(t *testing.T) {
	const size = 1 << 20
	p, f := patternFile(size)
	_, path := mounted(t, f, fusefs.Options{})
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	first := p.reads.Load()
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if n := p.reads.Load(); first == 0 || n != first {
		t.Errorf("%d reads, then %d more", first, n-first)
	}
}

type closing struct {
	*pattern
	closed chan<- struct{}
}

func (c closing) Close() error { c.closed <- struct{}{}; return nil }

func TestReaderPerHandle(t *testing.T) {
	const size = 1 << 20
	var mu sync.Mutex
	var all []*pattern // by order of opening
	closed := make(chan struct{}, 10)
	f := fusefs.File{Size: size, Open: func() fusefs.Reader {
		mu.Lock()
		defer mu.Unlock()
		p := &pattern{size: size}
		all = append(all, p)
		return closing{p, closed}
	}}
	_, path := mounted(t, f, fusefs.Options{})
	a, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	if _, err := a.ReadAt(buf, 0); err != nil || !bytes.Equal(buf, want(0, 4096)) {
		t.Error(err)
	}
	if _, err := b.ReadAt(buf, 512<<10); err != nil || !bytes.Equal(buf, want(512<<10, 4096)) {
		t.Error(err)
	}
	a.Close()
	<-closed
	b.Close()
	<-closed
	mu.Lock()
	defer mu.Unlock()
	if len(all) != 2 {
		t.Fatalf("opened %d times, want 2", len(all))
	}
	for i, p := range all {
		if p.reads.Load() == 0 {
			t.Errorf("reader %d was not used", i)
		}
	}
}

func TestBadRange(t *testing.T) {
	const (
		size     = 4 << 20
		from, to = 1<<20 + 5000, 1<<20 + 70_000 // pages 1..17 after the first MiB
	)
	var good atomic.Bool
	p, f := patternFile(size)
	p.before = func(_ context.Context, off, n int64) error {
		if !good.Load() && off < to && off+n > from {
			return errors.New("chunk 1a2b: digest mismatch")
		}
		return nil
	}
	log := new(notes)
	_, path := mounted(t, f, fusefs.Options{Log: log.logger()})

	for off := int64(1 << 20); off < 1<<20+131072; off += 4096 {
		bad := off < to && off+4096 > from
		b, err := pread(path, off, 4096)
		if bad && !errors.Is(err, syscall.EIO) {
			t.Errorf("at %d: %v, want EIO", off, err)
		}
		if !bad && (err != nil || !bytes.Equal(b, want(off, 4096))) {
			t.Errorf("at %d, beside the bad range: %v", off, err)
		}
	}
	if n := log.count("level=WARN"); n != 1 || log.count("err=\"chunk 1a2b: digest mismatch\"") != 1 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != size {
		t.Errorf("%v, %v", st, err)
	}
	good.Store(true)
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, want(0, size)) {
		t.Errorf("once repaired: %d bytes, %v", len(b), err)
	}
}

// A reader that ends early must not shrink the file, nor a panic the program.
func TestBrokenReader(t *testing.T) {
	const size = 1 << 20
	p, f := patternFile(size)
	p.size = 300_000
	var wild atomic.Bool
	p.before = func(context.Context, int64, int64) error {
		if wild.Load() {
			panic("reader")
		}
		return nil
	}
	log := new(notes)
	_, path := mounted(t, f, fusefs.Options{Log: log.logger()})
	if _, err := pread(path, 400_000, 1000); !errors.Is(err, syscall.EIO) {
		t.Errorf("beyond the reader's end: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != size {
		t.Errorf("%v, %v", st, err)
	}
	wild.Store(true)
	if _, err := pread(path, 900_000, 1000); !errors.Is(err, syscall.EIO) {
		t.Errorf("panic: %v", err)
	}
	if log.count("unexpected EOF") != 1 || log.count("panic=reader") == 0 {
		t.Errorf("log:\n%s", log)
	}
}

package blockcache_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"caravel/blockcache"
	"caravel/index"
	"caravel/store"
)

// childFile names the file that a child of TestFileKill uses.
const childFile = "CARAVEL_TEST_CHILD_FILE"

// killImage is the image of TestFileKill, the same in all processes.
func killImage(t testing.TB) ([]byte, *index.Index, *fakeStore) {
	data := holey(2 << 20)
	x, s := image(t, data, 9000, 100, 30_000, 16<<10)
	return data, x, s
}

// killMe is a child of TestFileKill: it reads, keeps and fills until it is
// killed, writes a byte for each thing done, and says so if it read a wrong one.
func killMe(t *testing.T, path string) {
	data, x, s := killImage(t)
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	const off, cut = 5000, 7000
	for {
		f, err := blockcache.OpenFile(path, x, fileOf(x, off, x.Size()-off-cut))
		if err != nil {
			t.Fatal(err)
		}
		img := blockcache.New(x, s, blockcache.Options{})
		img.Attach(f)
		p := make([]byte, 60_000)
		for range 1 + rng.IntN(60) {
			at := rng.Int64N(x.Size() - int64(len(p)))
			if _, err := img.View(store.Demand).ReadAt(t.Context(), p, at); err != nil || !bytes.Equal(p, data[at:][:len(p)]) {
				t.Fatalf("wrong bytes at %d or %v", at, err)
			}
			os.Stdout.WriteString(".")
		}
		if rng.IntN(3) == 0 {
			if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
				t.Fatal(err)
			}
		}
		img.Close()
		closeFile(t, f)
	}
}

// Two processes at once use a file and are killed at any instant. The next two
// go on with what is there.
func TestFileKill(t *testing.T) {
	if path := os.Getenv(childFile); path != "" {
		killMe(t, path)
	}
	rounds := 4
	if long, _ := strconv.ParseBool(os.Getenv("CARAVEL_LONG")); long {
		rounds = 200
	}
	data, x, s := killImage(t)
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(7, 8))
	reused := 0
	for round := range rounds {
		path := filepath.Join(dir, fmt.Sprint(round/8)) // now and then a new one
		var wg sync.WaitGroup
		for range 2 {
			steps := rng.IntN(150)
			wg.Go(func() { killAfter(t, path, steps) })
		}
		wg.Wait()
		f := openFile(t, path, x, 5000, x.Size()-12_000)
		img := blockcache.New(x, s, blockcache.Options{})
		img.Attach(f)
		if got := content(t, img, 0, x.Size()); !bytes.Equal(got, data) {
			t.Fatal("wrong bytes")
		}
		if img.Stats().File > 0 {
			reused++
		}
		if round%2 == 1 {
			if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(io.NewSectionReader(f.Backing(), 0, x.Size())); err != nil || !bytes.Equal(got, data[5000:x.Size()-7000]) {
				t.Fatalf("wrong bytes in the file or %v", err)
			}
		}
		img.Close()
		closeFile(t, f)
	}
	if reused == 0 {
		t.Error("nothing of what the children had was ever used")
	}
}

// killAfter starts a child and kills it after some steps.
func killAfter(t *testing.T, path string, steps int) {
	child := exec.Command(os.Args[0], "-test.run=^TestFileKill$")
	child.Env = append(os.Environ(), childFile+"="+path)
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Error(err)
		return
	}
	said, _ := io.ReadAll(io.LimitReader(out, int64(steps)))
	_ = child.Process.Signal(syscall.SIGKILL) // it may have failed before
	rest, _ := io.ReadAll(out)
	_ = child.Wait() // killed
	if words := strings.Trim(string(said)+string(rest), "."); words != "" {
		t.Error(words)
	}
}

// A disk that is full is said once; the reads go on, and what is there is used.
func TestFileDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=262144"); err != nil {
		t.Skipf("%s: tmpfs: %v", t.Name(), err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	data := noise(1 << 20)
	x, s := image(t, data, 16<<10)
	said := &words{}
	opt := fileOf(x, 0, x.Size())
	opt.Log = said.logger()
	f, err := blockcache.OpenFile(filepath.Join(dir, "f"), x, opt)
	if err != nil {
		t.Fatal(err)
	}
	img := blockcache.New(x, s, blockcache.Options{})
	img.Attach(f)
	defer img.Close()
	if err := img.Fill(t.Context(), f, store.Sweep); err == nil || f.Complete() {
		t.Errorf("Fill: %v", err)
	}
	// The last chunk to be written beside the one that failed may have found room, and
	// so said that there is some: the first one that is kept now says that there is none.
	for row := 0; row < x.Len(); row++ {
		if _, err := img.Keep(t.Context(), row, store.Sweep); err != nil {
			break
		}
	}
	asked := s.asks()
	for row := range x.Len() {
		_, err := img.Keep(t.Context(), row, store.Sweep)
		if kept := img.Kept(t.Context(), row); kept != (err == nil) {
			t.Errorf("Keep of chunk %d: %v, kept %v", row, err, kept)
		}
	}
	if n := s.asks() - asked; n != 0 {
		t.Errorf("%d requests for what cannot be kept", n)
	}
	for range 2 {
		if got := content(t, img, 0, x.Size()); !bytes.Equal(got, data) {
			t.Fatal("wrong bytes")
		}
	}
	if st := img.StatsOf(store.Demand); st.File == 0 || st.Misses == 0 {
		t.Errorf("%+v: want some from the file, and some not", st)
	}
	closeFile(t, f)
	if n := strings.Count(said.String(), "waits for room"); n != 1 || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("said %q", said.String())
	}
}

// What two have written at the same time is there for the third, and a file that
// is in use is not begun anew for another image.
func TestFileShared(t *testing.T) {
	data := noise(64 << 10)
	x, s := image(t, data, 1<<10)
	path := filepath.Join(t.TempDir(), "f")
	var files []*blockcache.File
	for i := range 2 {
		f := openFile(t, path, x, 0, x.Size())
		files = append(files, f)
		img := blockcache.New(x, s, blockcache.Options{})
		defer img.Close()
		img.Attach(f)
		for row := i; row < x.Len(); row += 2 {
			if _, err := img.Keep(t.Context(), row, store.Sweep); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range files {
		closeFile(t, f)
	}
	asked := s.asks()
	f := openFile(t, path, x, 0, x.Size())
	img := blockcache.New(x, s, blockcache.Options{})
	defer img.Close()
	img.Attach(f)
	if got := content(t, img, 0, x.Size()); !bytes.Equal(got, data) || s.asks() != asked {
		t.Errorf("wrong bytes, or %d requests for what the two had written", s.asks()-asked)
	}

	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	y := other(t)
	if _, err := blockcache.OpenFile(path, y, fileOf(y, 0, y.Size())); err == nil || !strings.Contains(err.Error(), "f.map: in use by another process, for another image") {
		t.Errorf("got %v", err)
	}
	closeFile(t, f)
	closeFile(t, openFile(t, path, y, 0, y.Size()))
}

// A file that was emptied is not given its length again below somebody who
// believes what was in it.
func TestFileEmptiedInUse(t *testing.T) {
	data := noise(64 << 10)
	x, s := image(t, data, 1<<10)
	path := filepath.Join(t.TempDir(), "f")
	f := openFile(t, path, x, 0, x.Size())
	img := blockcache.New(x, s, blockcache.Options{})
	defer img.Close()
	img.Attach(f)
	if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := blockcache.OpenFile(path, x, fileOf(x, 0, x.Size())); err == nil || !strings.Contains(err.Error(), "is empty, though another process uses its map (f.map)") {
		t.Errorf("got %v", err)
	}
	if got := content(t, img, 0, x.Size()); !bytes.Equal(got, data) {
		t.Error("wrong bytes")
	}
	closeFile(t, f)
	closeFile(t, openFile(t, path, x, 0, x.Size()))
}

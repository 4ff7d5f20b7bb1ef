//go:build unix

package diskcache_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/storetest"
)

const (
	killedDir  = "DISKCACHE_TEST_DIR"
	killedSeed = "DISKCACHE_TEST_SEED"
	killedSize = 4 << 20
	killedOf   = 400 // different chunks, of 12 MB
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		if err := hammer(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// numbered are the plain bytes of chunk i.
func numbered(i int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(i))
	b := make([]byte, 500+i*149)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// hammer uses the cache until the process is killed. Each byte that it writes
// stands for one thing done.
func hammer(dir string) error {
	seed, err := strconv.ParseUint(os.Getenv(killedSeed), 10, 64)
	if err != nil {
		return err
	}
	c, err := diskcache.Open(dir, diskcache.Options{Size: killedSize})
	if err != nil {
		return err
	}
	for r := rand.New(rand.NewPCG(seed, 0)); ; {
		i := min(r.IntN(killedOf), r.IntN(killedOf)) // some more often than others
		if err := visit(c, i); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
			return err
		}
	}
}

// visit reads a chunk and a small file, and writes what is missing.
func visit(c *diskcache.Cache, i int) error {
	plain := numbered(i)
	err := get(context.Background(), c, plain)
	if errors.Is(err, store.ErrMissing) {
		chunk := store.NewChunk(storetest.Want(plain).ID, chunker.SHA512_256, plain, nil)
		err = c.Put(context.Background(), chunk)
		chunk.Release()
	}
	if err != nil || i%10 > 0 {
		return err
	}
	name := fmt.Sprintf("index/%d", i)
	got, err := c.ReadFile(name, 1<<20)
	if errors.Is(err, store.ErrMissing) {
		return c.WriteFile(name, plain)
	}
	if err == nil && string(got) != string(plain) {
		err = fmt.Errorf("%s: other bytes", name)
	}
	return err
}

// Two processes share a directory that is much too small for what they do, and
// are killed at random instants: no byte is ever wrong, the budget holds, what
// they left half done goes away, and the cache is of use all the time.
func TestKilled(t *testing.T) {
	rounds := 6
	if os.Getenv("CARAVEL_LONG") != "" {
		rounds = 100 // two are killed in each
	}
	dir := filepath.Join(t.TempDir(), "cache")
	r := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		first := start(t, dir, 2*round)
		second := start(t, dir, 2*round+1)
		first.killAfter(t, r.IntN(500))
		second.killAfter(t, r.IntN(500))
	}
	c := open(t, dir, diskcache.Options{Size: killedSize})
	if n := temporary(t, dir); n != 0 {
		t.Errorf("%d unfinished files are left", n)
	}
	for i := range killedOf {
		if err := visit(c, i); err != nil {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
	if err := c.Sync(context.Background()); err != nil {
		t.Error(err)
	}
	s := c.Stats()
	if taken := diskcache.Taken(t, dir); s.Hits < killedOf/20 || s.Evicted == 0 || s.Failed > 0 || taken > killedSize*17/16+64<<10 || taken < killedSize/2 {
		t.Errorf("%d bytes on disk, %+v", taken, s)
	}
}

type victim struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func start(t *testing.T, dir string, seed int) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedDir+"="+dir, fmt.Sprintf("%s=%d", killedSeed, seed))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &victim{cmd, bufio.NewReader(out)}
}

// killAfter kills the process when it has done n things.
func (v *victim) killAfter(t *testing.T, n int) {
	t.Helper()
	if _, err := v.out.Discard(n); err != nil && err != io.EOF {
		t.Error(err)
	}
	v.cmd.Process.Kill()
	v.cmd.Wait()
	if status := v.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
		t.Errorf("ended by itself: %v", v.cmd.ProcessState)
	}
}

// temporary is how many unfinished files there are.
func temporary(t *testing.T, dir string) int {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "tmp", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(left)
}

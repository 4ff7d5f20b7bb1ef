//go:build unix

package fetch_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"caravel/chunker"
	server "caravel/internal/origin"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/http"
	"caravel/store/local"
)

// serveEnv makes the test's program a web server for a folder, in a process of
// its own: what it takes of the processor is not the client's.
const serveEnv = "CARAVEL_FETCH_BENCH_ORIGIN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		serve(dir)
		return
	}
	m.Run()
}

// serve answers until standard input ends. The setting is the link's bandwidth
// in bytes per second (0: no link at all, else 20 ms away) and the folder.
func serve(setting string) {
	bandwidth, dir, _ := strings.Cut(setting, " ")
	opt := server.Options{}
	if n, _ := strconv.ParseInt(bandwidth, 10, 64); n > 0 {
		opt = server.Options{RTT: 20 * time.Millisecond, Bandwidth: n}
	}
	o, err := server.Start(dir, opt)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(o.URL())
	io.Copy(io.Discard, os.Stdin)
	o.Close()
}

// startServer starts another process that serves dir, and returns its URL.
func startServer(b *testing.B, bandwidth int, dir string) string {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+strconv.Itoa(bandwidth)+" "+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait() // it has nothing to say any more
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// prose makes text that packs to some half of its size, as programs do.
func prose(r *rand.Rand, size int) []byte {
	var words [2048][]byte
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(9))
		for j := range words[i] {
			words[i][j] = byte(r.IntN(256))
		}
	}
	b := make([]byte, 0, size+16)
	for len(b) < size {
		n := r.IntN(len(words))
		b = append(b, words[r.IntN(n+1)]...)
	}
	return b[:size]
}

// fill makes a store of n chunks of plainSize bytes, and says how long they are
// packed.
func fill(b *testing.B, n int) (dir string, wants []store.Want, packed int64) {
	b.Helper()
	dir = b.TempDir()
	s, err := store.Writable(local.New(dir, local.Options{}), store.Form{})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	plain := prose(r, n*256+plainSize)
	for i := range n {
		c := plain[i*256 : i*256+plainSize : i*256+plainSize]
		id := chunker.SHA512_256.Sum(c)
		chunk := store.NewChunk(id, chunker.SHA512_256, c, nil)
		if err := s.Put(b.Context(), chunk); err != nil {
			b.Fatal(err)
		}
		chunk.Stored(store.Form{}, func(stored []byte) error { packed += int64(len(stored)); return nil })
		wants = append(wants, store.Want{ID: id, Size: plainSize})
	}
	return dir, wants, packed
}

const plainSize = 72 << 10

// What a chunk costs: its bytes from a server in another process, or from a
// directory, unpacked and verified.
func BenchmarkChunk(b *testing.B) {
	dir, wants, packed := fill(b, 1000)
	b.Logf("%d bytes a chunk, packed %d", plainSize, packed/int64(len(wants)))
	near := store.Chunks(local.New(dir, local.Options{}), store.Form{})
	b.Run("directory", func(b *testing.B) {
		getAll(b, near, fetch.Options{MaxWindow: 8}, wants, 16)
	})
	for _, inFlight := range []int{1, 64} {
		b.Run(fmt.Sprintf("web, %d at a time", inFlight), func(b *testing.B) {
			getAll(b, overWeb(b, 0, dir), fetch.Options{}, wants, inFlight)
		})
	}
	b.Run("web, 20 ms and 1 Gbit", func(b *testing.B) {
		getAll(b, overWeb(b, 125e6, dir), fetch.Options{}, wants, 128)
	})
}

func overWeb(b *testing.B, bandwidth int, dir string) store.Store {
	b.Helper()
	opt := http.Options{}
	opt.Client = http.NewClient(opt)
	b.Cleanup(opt.Client.CloseIdleConnections)
	web, err := http.New(startServer(b, bandwidth, dir), opt)
	if err != nil {
		b.Fatal(err)
	}
	return store.Chunks(web, store.Form{})
}

// What somebody waits who reads one chunk after the other out of nothing, while
// a sweep fills the link, all on this machine's cores.
func BenchmarkDemandDuringSweep(b *testing.B) {
	dir, wants, _ := fill(b, 4000)
	for _, bandwidth := range []int{125e6, 12.5e6} {
		b.Run(fmt.Sprintf("%d Mbit", bandwidth/125e3), func(b *testing.B) {
			q := fetch.New(overWeb(b, bandwidth, dir), fetch.Options{})
			defer q.Close()
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			var next atomic.Int64
			for range 128 {
				wg.Go(func() {
					for ctx.Err() == nil {
						w := wants[1000+next.Add(1)%3000]
						w.Class = store.Sweep
						if c, err := q.Get(ctx, w); err == nil {
							c.Release()
						}
					}
				})
			}
			time.Sleep(time.Second) // until the link is full
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				c, err := q.Get(ctx, wants[i%1000])
				if err != nil {
					b.Fatal(err)
				}
				c.Release()
				took = append(took, time.Since(start))
			}
			s := q.Stats()
			cancel()
			wg.Wait()
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
			b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
			b.ReportMetric(float64(s.Class[store.Sweep].Chunks)/float64(b.N), "swept/op")
			b.ReportMetric(float64(s.Hedges), "hedges")
			b.ReportMetric(float64(s.MadeWay), "made-way")
		})
	}
}

// getAll gets b.N chunks with so many callers.
func getAll(b *testing.B, s store.Store, opt fetch.Options, wants []store.Want, callers int) {
	q := fetch.New(s, opt)
	defer q.Close()
	b.SetBytes(plainSize)
	b.ReportAllocs()
	b.ResetTimer()
	before := processor(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				w := wants[i%int64(len(wants))]
				w.Class = store.Sweep
				c, err := q.Get(context.Background(), w)
				if err != nil || !c.Verified() {
					b.Error(err)
					return
				}
				c.Release()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((processor(b)-before).Microseconds())/float64(b.N), "µs-cpu/op")
}

// processor is the time that this process has had of it.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

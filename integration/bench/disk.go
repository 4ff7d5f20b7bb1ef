//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
)

// A diskServer serves an image over NBD on a Unix socket.
type diskServer struct {
	name string
	args func(socket string) []string
	warm bool // has it read once before it counts
}

// disks measures servers of disks in turns on what is warm: whole copies, and
// reads of 4 KiB at random.
func (s *setting) disks() error {
	if !installed("nbdkit", "nbdcopy", "fio") {
		return nil
	}
	x, whole := s.path("www", "disk.caibx"), s.path("disk.whole")
	defer os.Remove(whole + ".map")
	defer os.Remove(whole)
	caravel := func(args ...string) func(string) []string {
		return func(socket string) []string {
			return append([]string{s.bin, "nbd-server", "--socket", socket}, args...)
		}
	}
	file := func(socket string) []string { return []string{"nbdkit", "-f", "-r", "-U", socket, "file", s.image} }
	memory := func(socket string) []string {
		return []string{"nbdkit", "-f", "-U", socket, "memory", fmt.Sprint(s.bytes)}
	}
	fmt.Printf("\nnbdcopy of the whole disk to null, warm, Unix socket (MB/s)\n")
	servers := []diskServer{
		{"caravel, the image in memory", caravel("--memory=8G", x), true},
		{"caravel, materialised", caravel("--materialize="+whole, x), true},
		{"caravel, a plain file", caravel(s.image), true},
		{"nbdkit file", file, true},
	}
	for _, connections := range []int{1, 4} {
		err := s.inTurn(servers, fmt.Sprintf("%d connections", connections), ">= 0.9 times nbdkit file", func(uri string) (float64, error) {
			took, _, err := timed([]string{"nbdcopy", fmt.Sprintf("--connections=%d", connections), uri, "null:"})
			return float64(s.bytes) / 1e6 / took, err
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("\nfio, 4 KiB at random, warm, Unix socket (reads a second)\n")
	servers = []diskServer{servers[0], servers[1], {"nbdkit memory", memory, false}}
	for _, depth := range []int{1, 16, 64} {
		err := s.inTurn(servers, fmt.Sprintf("depth %d", depth), ">= 0.8 times nbdkit memory", func(uri string) (float64, error) { return fioNBD(uri, depth) })
		if err != nil {
			return err
		}
	}
	return nil
}

// installed reports whether programs are, and says which one is not.
func installed(programs ...string) bool {
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Printf("\n%s is not installed: no figures of disks\n", program)
			return false
		}
	}
	return true
}

// inTurn measures each server s.runs times and prints medians, and ratios to the
// last one.
func (s *setting) inTurn(servers []diskServer, measure, goal string, do func(uri string) (float64, error)) error {
	all := make([][]float64, len(servers))
	for range s.runs {
		for i, d := range servers {
			x, err := s.servedDisk(d, do)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			all[i] = append(all[i], x)
		}
	}
	last := median(all[len(all)-1])
	for i, d := range servers {
		row(measure+", "+d.name, goal, "%9.0f  (%.2f times)", median(all[i]), median(all[i])/last)
		measure, goal = strings.Repeat(" ", len(measure)), ""
	}
	return nil
}

// servedDisk starts a server for one measurement.
func (s *setting) servedDisk(d diskServer, do func(uri string) (float64, error)) (x float64, err error) {
	socket := s.path("disk.sock")
	if err := os.RemoveAll(socket); err != nil {
		return 0, err
	}
	args := d.args(socket)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), ignoreExit(cmd.Wait()))
	}()
	for range 2000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	uri := "nbd+unix:///?socket=" + socket
	if d.warm {
		if _, _, err := timed([]string{"nbdcopy", uri, "null:"}); err != nil {
			return 0, err
		}
	}
	return do(uri)
}

// fioNBD returns reads a second over the first 256 MiB.
func fioNBD(uri string, depth int) (float64, error) {
	out, err := exec.Command("fio", "--name=r", "--ioengine=nbd", "--uri="+uri, "--rw=randread", "--bs=4k", "--size=256m", "--readonly",
		fmt.Sprintf("--iodepth=%d", depth), "--time_based", "--runtime=3", "--ramp_time=1", "--output-format=json").Output()
	if err != nil {
		return 0, fmt.Errorf("fio: %w", err)
	}
	var said struct {
		Jobs []struct {
			Read struct {
				IOPS float64 `json:"iops"`
			} `json:"read"`
		} `json:"jobs"`
	}
	// fio may print a note before its JSON.
	_, body, _ := strings.Cut(string(out), "{")
	if err := json.Unmarshal([]byte("{"+body), &said); err != nil || len(said.Jobs) == 0 {
		return 0, fmt.Errorf("fio: no figures: %w", err)
	}
	return said.Jobs[0].Read.IOPS, nil
}

// prepareSparse makes the index of an image of 1 TiB that has nothing in it but
// holes: 4 million rows.
func (s *setting) prepareSparse() error { return holesOnly(s.path("www", "sparse.caibx"), 1<<40) }

// sparse copies that image.
func (s *setting) sparse() error {
	o, err := s.faraway(gigabit, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	fmt.Printf("\nan image of 1 TiB of holes, 20 ms and 1 Gbit/s away\n")
	cmd := exec.Command(s.bin, "nbd-server", "--no-sweep", "--cache-dir=none", "--socket", s.path("disk.sock"), o.URL()+"/sparse.caibx")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(stdout).ReadString('\n')
	var took float64
	if err == nil {
		took, _, err = timed([]string{"nbdcopy", "nbd+unix:///?socket=" + s.path("disk.sock"), "null:"})
	}
	chunks := int64(0)
	for path, n := range o.Counts().Paths {
		if strings.HasSuffix(path, ".cacnk") {
			chunks += n
		}
	}
	row("nbdcopy to null", "seconds, no chunk of holes", "%6.1f s, %d chunks asked for", took, chunks)
	return errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), ignoreExit(cmd.Wait()))
}

// holesOnly writes the index of a disk of zeros.
func holesOnly(path string, size int64) error {
	p := chunker.DefaultParams()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), p)
	id := chunker.SHA512_256.Sum(make([]byte, p.Max))
	for range size / int64(p.Max) {
		if err := b.Append(id, p.Max); err != nil {
			return err
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = b.Index().WriteTo(f)
	return errors.Join(err, f.Close())
}

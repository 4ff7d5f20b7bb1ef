//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A cluster is Ceph with an S3 gateway: three disks' servers, each with a copy of
// everything.
type cluster struct {
	t       *testing.T
	program string
	dir     string
	bucket  string // URL
}

// startCluster starts one, and gives its keys to the commands that the test starts.
// The test is skipped where the packages are missing.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	program, err := filepath.Abs("ceph/cluster")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "--check").CombinedOutput(); err != nil {
		t.Skipf("no cluster: %s", out)
	}
	// Not t.TempDir: sockets want a short path.
	dir, err := os.MkdirTemp("", "caravel-ceph")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, program: program, dir: dir}
	t.Cleanup(func() { c.do("down") })
	c.do("up")
	s3Env(t)
	var endpoint, bucket string
	for line := range strings.Lines(c.do("env")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "S3_ENDPOINT":
			endpoint = value
		case "S3_BUCKET":
			bucket = value
		case "S3_ACCESS_KEY", "S3_SECRET_KEY":
			t.Setenv(name, value)
		}
	}
	c.bucket = "s3+" + endpoint + "/" + bucket
	return c
}

// do runs a command of the cluster's.
func (c *cluster) do(command string, args ...string) string {
	c.t.Helper()
	return must(c.t, c.program, append([]string{command, c.dir}, args...)...)
}

// clusterImage makes an image of what an image has: bytes that do not shrink, text,
// zeros.
func clusterImage(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	const part = 8 << 20
	noise := rand.NewChaCha8([32]byte{5})
	for at := int64(0); at < size; at += part {
		switch at / part % 4 {
		case 0, 1:
			_, err = io.CopyN(w, noise, part)
		case 2:
			_, err = w.WriteString(strings.Repeat("all work and no play", part/20+1)[:part])
		default:
			_, err = io.CopyN(w, zeros{}, part)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Flush(), f.Truncate(size)); err != nil {
		t.Fatal(err)
	}
}

// TestCluster makes an image into a cluster with two writers at once, mounts it,
// and ends one of three disks' servers in the middle of the reads: every byte is
// right, and nobody sees an error.
func TestCluster(t *testing.T) {
	c := startCluster(t)
	dir := t.TempDir()
	image, index := filepath.Join(dir, "disk.img"), c.bucket+"/images/disk.caibx"
	size := int64(times(256, 4096)) << 20
	clusterImage(t, image, size)
	var writers [2]struct {
		stdout, stderr bytes.Buffer
		err            error
	}
	var wg sync.WaitGroup
	for i, to := range [][]string{{index}, {"--store=" + c.bucket + "/images/default.castr", filepath.Join(dir, "second.caibx")}} {
		wg.Go(func() {
			cmd := exec.Command(caravel, slices.Concat([]string{"make"}, to, []string{image})...)
			cmd.Stdout, cmd.Stderr = &writers[i].stdout, &writers[i].stderr
			writers[i].err = cmd.Run()
		})
	}
	wg.Wait()
	for i := range writers {
		if w := &writers[i]; w.err != nil || w.stdout.String() != writers[0].stdout.String() {
			t.Fatalf("writer %d: %v, digest %q, not %q: %s", i, w.err, &w.stdout, &writers[0].stdout, &w.stderr)
		}
	}

	m, file := mounted(t, "--no-sweep", index, filepath.Join(dir, "mnt"))
	got, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	sameBytes(t, io.LimitReader(got, size/3), io.LimitReader(want, size/3))
	killed := make(chan error, 1)
	go func() { killed <- exec.Command(c.program, "kill-osd", c.dir, "1").Run() }()
	sameBytes(t, got, want)
	if err := <-killed; err != nil {
		t.Errorf("kill-osd: %v", err)
	}
	if status := m.stop(syscall.SIGTERM); status != 0 || strings.Contains(m.stderr.String(), "ERROR") {
		t.Errorf("mount: status %d, %s", status, m.stderr)
	}
	// And so does a copy of all that is made now, with one server less.
	must(t, caravel, "extract", "--no-sync", index, filepath.Join(dir, "out"))
	same(t, filepath.Join(dir, "out"), image)
}

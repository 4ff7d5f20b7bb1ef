//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fioSums are the flags of fio for blocks that carry their place and a checksum,
// 8 MiB of them, with which every job of a reader begins anew at the end.
var fioSums = []string{"--name=r", "--bs=4k", "--size=8m", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"}

// fioReaders are jobs of fio that read, each here and there, and check every block,
// until they are told to end.
type fioReaders struct {
	*daemon
	jobs   int
	report string
}

// fioImage writes what they can check.
func fioImage(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, "fio", append(fioSums, "--filename="+image, "--rw=write", "--do_verify=0")...)
	return image
}

// startFio starts the jobs; what they read from is in from.
func startFio(t *testing.T, jobs int, from ...string) *fioReaders {
	t.Helper()
	f := &fioReaders{jobs: jobs, report: filepath.Join(t.TempDir(), "report")}
	f.daemon = start(t, "fio", slices.Concat(fioSums, from, []string{"--readonly", "--rw=randread", "--thread",
		fmt.Sprintf("--numjobs=%d", jobs), "--time_based", "--runtime=2h", "--thinktime=10ms", // leaves the machine time for others
		"--disk_util=0", "--output-format=json", "--output=" + f.report})...)
	return f
}

// goOn waits until each job has read more of a device.
func (f *fioReaders) goOn() {
	f.t.Helper()
	const some = 5 * 4096
	from := f.read()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		moved := 0
		for task, n := range f.read() {
			if n >= from[task]+some {
				moved++
			}
		}
		if moved >= f.jobs {
			return
		}
		select {
		case <-f.exited:
			f.t.Fatalf("fio has ended: status %d: %s%s", f.cmd.ProcessState.ExitCode(), f.stderr, read(f.t, f.report))
		default:
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d of fio's %d jobs go on: bytes read were %v, are %v", moved, f.jobs, from, f.read())
		}
	}
}

// read is how many bytes each thread of fio has read; those that are no jobs read
// next to nothing.
func (f *fioReaders) read() map[string]int {
	counts := map[string]int{}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/io", f.cmd.Process.Pid))
	for _, file := range files {
		b, _ := os.ReadFile(file) // the thread may have ended
		if _, rest, ok := strings.Cut(string(b), "rchar: "); ok {
			line, _, _ := strings.Cut(rest, "\n")
			counts[file], _ = strconv.Atoi(line)
		}
	}
	return counts
}

// ends ends the jobs, none of which may have met an error, and returns how many
// reads there were, and the longest.
func (f *fioReaders) ends() (reads int, longest time.Duration) {
	f.t.Helper()
	f.stop(syscall.SIGINT) // of which its status tells
	var report struct {
		Jobs []struct {
			Error int
			Read  struct {
				Total int `json:"total_ios"`
				Took  struct {
					Max time.Duration
				} `json:"clat_ns"`
			}
		}
	}
	text := string(read(f.t, f.report))
	if err := json.Unmarshal([]byte(text[max(0, strings.Index(text, "{")):]), &report); err != nil || len(report.Jobs) != f.jobs {
		f.t.Fatalf("%v, %d jobs in %s", err, len(report.Jobs), text)
	}
	for i, job := range report.Jobs {
		if job.Error != 0 {
			f.t.Errorf("job %d: error %d: %s", i, job.Error, f.stderr)
		}
		reads += job.Read.Total
		longest = max(longest, job.Read.Took.Max)
	}
	return reads, longest
}

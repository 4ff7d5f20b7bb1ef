//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// wanLocal reads an image whose store is on this disk.
func (s *setting) wanLocal() error {
	if _, err := exec.LookPath("fio"); err != nil {
		fmt.Println("\nfio is not installed: no figures of local reads")
		return nil
	}
	x := s.path("www", "disk.caibx")
	fmt.Printf("\nthe disk image, mounted, its store on this disk\n")
	programs := [][]string{{s.bin, "mount-index", x}}
	if s.desync != "" {
		programs = append(programs, []string{s.desync, "mount-index", "-s", s.path("www", "default.castr"), x})
	}
	for i, p := range programs {
		if err := s.localReads(i == 0, p); err != nil {
			return err
		}
	}
	return s.wanMaterialized()
}

// localReads prints what fio says of one program.
func (s *setting) localReads(ours bool, program []string) error {
	m, err := s.mountBy(program...)
	if err != nil {
		return err
	}
	defer m.end()
	path, err := m.onlyFile()
	if err != nil {
		return err
	}
	name := func(goal string) string {
		if ours {
			return goal
		}
		return "desync"
	}
	began := time.Now()
	n, err := readFirst(path, -1)
	if err != nil {
		return err
	}
	row("in order, cold, MB/s", name(">= 400"), "%7.0f", float64(n)/1e6/time.Since(began).Seconds())
	began = time.Now()
	const again = 256 << 20 // what the kernel has in memory
	if n, err = readFirst(path, again); err != nil {
		return err
	}
	row("in order, warm, MB/s", name(">= 3000"), "%7.0f", float64(n)/1e6/time.Since(began).Seconds())
	// What fits into the program's memory, and was read before by each job.
	for _, c := range []struct {
		measure, goal string
		args          []string
	}{
		{"4 KiB at random, O_DIRECT, chunk in memory", ">= 24k", []string{"--direct=1", "--numjobs=1"}},
		{"the same, 16 jobs", ">= 50k", []string{"--direct=1", "--numjobs=16"}},
		{"4 KiB at random, page in the kernel", ">= 600k", []string{"--invalidate=0", "--numjobs=1"}},
	} {
		iops, _, err := fioRead(path, append(c.args, "--rw=randread", "--bs=4k", "--size=24m", "--time_based", "--runtime=4", "--ramp_time=2")...)
		if err != nil {
			return err
		}
		row(c.measure, name(c.goal), "%7.0f", iops)
	}
	return nil
}

// fioRead returns reads and bytes a second.
func fioRead(path string, args ...string) (iops, rate float64, err error) {
	all := append([]string{"--name=r", "--filename=" + path, "--ioengine=psync", "--readonly", "--group_reporting", "--output-format=json"}, args...)
	out, err := exec.Command("fio", all...).Output()
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = fmt.Errorf("fio: %w: %s", err, exit.Stderr)
		}
		return 0, 0, err
	}
	var said struct {
		Jobs []struct {
			Read struct {
				IOPS    float64 `json:"iops"`
				BWBytes float64 `json:"bw_bytes"`
			} `json:"read"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(out, &said); err != nil || len(said.Jobs) == 0 {
		return 0, 0, fmt.Errorf("fio: no figures: %w", err)
	}
	return said.Jobs[0].Read.IOPS, said.Jobs[0].Read.BWBytes, nil
}

// wanMaterialized reads an image that lies whole in a file beside its mount.
func (s *setting) wanMaterialized() error {
	file := s.path("disk.materialized")
	defer os.Remove(file)
	args := []string{s.bin, "mount-index", "--materialize=" + file, s.path("www", "disk.caibx")}
	m, err := s.mountBy(args...)
	if err != nil {
		return err
	}
	path, err := m.onlyFile()
	if err != nil {
		return errors.Join(err, m.end())
	}
	_, err = readFirst(path, -1)
	time.Sleep(2 * time.Second) // until the last chunks are in the file
	if err = errors.Join(err, m.end()); err != nil {
		return err
	}
	if m, err = s.mountBy(args...); err != nil {
		return err
	}
	defer m.end()
	time.Sleep(time.Duration(s.mib)*4*time.Millisecond + time.Second) // it is verified once more
	for _, c := range []struct{ measure, path string }{{"materialised and complete", path}, {"the file itself", file}} {
		iops, _, err := fioRead(c.path, "--rw=randread", "--bs=4k", "--invalidate=0", "--size=256m", "--time_based", "--runtime=4", "--ramp_time=1")
		if err != nil {
			return err
		}
		_, rate, err := fioRead(c.path, "--rw=read", "--bs=1m", "--invalidate=0", "--size=256m", "--time_based", "--runtime=4", "--ramp_time=1")
		if err != nil {
			return err
		}
		row(c.measure, ">= 700k, >= 6000 MB/s", "%7.0f reads of 4 KiB a second, %6.0f MB/s", iops, rate/1e6)
	}
	return nil
}

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// kernelReads attaches images in turns, in a machine whose kernel has the driver,
// has each read once, and prints "figure NAME SECONDS" of the next time. Its
// arguments are caravel, an index, the image itself, a socket and how many turns.
const kernelReads = `
caravel=$1 index=$2 image=$3 socket=$4 turns=$5
read_all() { dd if="$1" of=/dev/null bs=1M iflag=direct 2>&1 | sed -n 's/.* copied, \([^ ]*\) s,.*/\1/p'; }
figure() { read_all "$2" >/dev/null; echo "figure $1 $(read_all "$2")"; }
ours() {
	name=$1; shift
	"$caravel" mkdev --via=nbd "$@" >"$socket.out" & pid=$!
	device=
	while [ -z "$device" ]; do kill -0 $pid || exit 1; sleep 0.1; device=$(sed -n 's/^Attached: //p' "$socket.out"); done
	figure "$name" "$device"
	kill $pid; wait $pid || exit 1
}
nbdkit_file() {
	nbdkit -f -r -U "$socket" file "$image" & pid=$!
	while [ ! -S "$socket" ]; do kill -0 $pid || exit 1; sleep 0.1; done
	nbd-client -unix "$socket" /dev/nbd15 -C 4 >&2 || exit 1
	figure nbdkit /dev/nbd15
	nbd-client -d /dev/nbd15 >&2
	kill $pid; wait $pid; rm -f "$socket"
}
modprobe nbd || exit 1
for turn in $(seq "$turns"); do
	ours memory --memory=1G --cache-dir=none "$index"
	ours file "$image"
	nbdkit_file
done
`

// prepareKernel cuts an image of 128 MiB, the begin of the disk: the machine has
// little memory.
func (s *setting) prepareKernel() error {
	if err := s.prepareDisk(); err != nil {
		return err
	}
	whole, err := os.Open(s.image)
	if err != nil {
		return err
	}
	defer whole.Close()
	f, err := os.Create(s.path("kernel.img"))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(whole, 128<<20))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	out, err := exec.Command(s.bin, "make", s.path("www", "kernel.caibx"), f.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// kernel reads devices of the kernel's nbd driver from beginning to end, past the
// page cache, in a virtual machine: its processor is emulated where there is no
// KVM, so only the ratios count.
func (s *setting) kernel() error {
	vm, err := filepath.Abs("integration/vm/run")
	if err != nil {
		return err
	}
	for _, check := range [][]string{{vm, "--check"}, {"nbdkit", "--version"}, {"nbd-client", "-V"}} {
		if out, err := exec.Command(check[0], check[1:]...).CombinedOutput(); err != nil {
			fmt.Printf("\n%v: %v: no figures of kernel devices: %s\n", check, err, out)
			return nil
		}
	}
	image := s.path("kernel.img")
	st, err := os.Stat(image)
	if err != nil {
		return err
	}
	cmd := exec.Command(vm, "--mem", "2048", "--timeout", "1800", "--", "sh", "-c", kernelReads, "sh",
		s.bin, s.path("www", "kernel.caibx"), image, "/tmp/bench.sock", fmt.Sprint(s.runs))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	speeds := map[string][]float64{} // MB/s
	for line := range strings.Lines(string(out)) {
		var name, text string
		if n, _ := fmt.Sscanf(line, "figure %s %s", &name, &text); n != 2 {
			continue
		}
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		speeds[name] = append(speeds[name], float64(st.Size())/1e6/seconds)
	}
	fmt.Printf("\nkernel device in a virtual machine, %d MiB in order, warm, direct I/O, 4 connections (MB/s)\n", st.Size()>>20)
	goal := ">= 0.8 times nbdkit"
	for _, c := range [][2]string{{"memory", "caravel mkdev, the image in memory"}, {"file", "caravel mkdev, a plain file"}, {"nbdkit", "nbdkit file, nbd-client"}} {
		if len(speeds[c[0]]) != s.runs {
			return fmt.Errorf("%s: %d figures, want %d:\n%s", c[1], len(speeds[c[0]]), s.runs, out)
		}
		m := median(speeds[c[0]])
		row(c[1], goal, "%9.0f  (%.2f times)", m, m/median(speeds["nbdkit"]))
		goal = ""
	}
	return nil
}

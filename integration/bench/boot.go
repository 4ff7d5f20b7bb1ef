//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"caravel/internal/origin"
)

// bootPackages make of a minimal Debian the system of a small server.
const bootPackages = "systemd-sysv,systemd-resolved,udev,dbus,openssh-server,python3,vim,git,curl,ca-certificates,locales,perl,man-db,build-essential"

// prepareBoot makes a disk with a Debian system on it, 4 GiB with 0.9 GB of
// files, and cuts it into www. It is not made again where -dir has it.
func (s *setting) prepareBoot() error {
	img := s.path("boot.img")
	if _, err := os.Stat(img); err != nil {
		root := s.path("root")
		defer os.RemoveAll(root)
		getty := filepath.Join(root, "etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service")
		for _, args := range [][]string{
			{"debootstrap", "--variant=minbase", "--include=" + bootPackages, "stable", root},
			{"ln", "-sf", "/lib/systemd/system/serial-getty@.service", getty},
			{"sh", "-c", `echo "/dev/vda / ext4 rw,relatime 0 1" >"$0/etc/fstab"`, root},
			{"mkfs.ext4", "-q", "-F", "-d", root, img, "4G"},
		} {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", args[0], err, out)
			}
		}
	}
	out, err := exec.Command(s.bin, "make", s.path("www", "boot.caibx"), img).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// boots starts a virtual machine from the image until it asks for a login. The
// processor of the machine is emulated where there is no KVM, which takes longer
// than all else; what the network adds to that is what counts.
func (s *setting) boots() error {
	o, err := s.faraway(gigabit, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	x, profile := o.URL()+"/boot.caibx", s.path("boot.profile")
	packed, err := s.storeBytes("boot.caibx")
	if err != nil {
		return err
	}
	fmt.Printf("\na machine boots from the image until it asks for a login, 20 ms and 1 Gbit/s away, --no-sweep\n")
	first, n, err := s.bootBy(o, "--no-sweep", "--profile=none", "--record="+profile, x)
	if err != nil {
		return err
	}
	row("cold", "bytes <= 15 %", "%6.1f s  %5d requests  %6.1f MB, %.1f %% of the store's", first, n.Requests, float64(n.Bytes)/1e6, 100*float64(n.Bytes)/packed)
	var local, with, cold []float64
	for range s.runs { // in turns: the machine's speed drifts
		took, _, err := s.bootBy(o, s.path("boot.img"))
		if err != nil {
			return err
		}
		local = append(local, took)
		if took, n, err = s.bootBy(o, "--no-sweep", "--profile="+profile, x); err != nil {
			return err
		}
		with = append(with, took)
		if took, _, err = s.bootBy(o, "--no-sweep", "--profile=none", x); err != nil {
			return err
		}
		cold = append(cold, took)
	}
	row("from a local file", "", "%6.1f s", median(local))
	row("cold, with the profile of an earlier boot", "<= 1.3 times local", "%6.1f s  %5d requests  %6.1f MB: %.2f times local", median(with), n.Requests, float64(n.Bytes)/1e6, median(with)/median(local))
	row("cold, without", "", "%6.1f s: %.2f times local", median(cold), median(cold)/median(local))
	return nil
}

// storeBytes is how many bytes the chunks of an index have in the store.
func (s *setting) storeBytes(index string) (sum float64, err error) {
	out, err := exec.Command(s.bin, "list-chunks", s.path("www", index)).Output()
	if err != nil {
		return 0, err
	}
	seen := map[string]bool{}
	for id := range strings.Lines(string(out)) {
		if id = strings.TrimSpace(id); seen[id] {
			continue
		}
		seen[id] = true
		st, err := os.Stat(s.path("www", "default.castr", id[:4], id+".cacnk"))
		if err != nil {
			return 0, err
		}
		sum += float64(st.Size())
	}
	return sum, nil
}

// bootBy serves an image by nbd-server with args, boots from it, and returns the
// seconds from the start of the machine until the login.
func (s *setting) bootBy(o *origin.Origin, args ...string) (seconds float64, c origin.Counts, err error) {
	if err := s.cold(); err != nil {
		return 0, c, err
	}
	o.Reset()
	socket := s.path("boot.sock")
	cmd := exec.Command(s.bin, append([]string{"nbd-server", "--socket", socket}, args...)...)
	cmd.Env = append(os.Environ(), "CARAVEL_CACHE_DIR="+s.path("cache"))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, c, err
	}
	if err := cmd.Start(); err != nil {
		return 0, c, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "Serving:") {
		err = fmt.Errorf("nbd-server says %q", line)
	}
	if err == nil {
		seconds, err = bootFrom("nbd+unix:///?socket=" + socket)
	}
	c = o.Counts()
	if stopErr := cmd.Process.Signal(syscall.SIGTERM); err == nil {
		err = stopErr
	}
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	return seconds, c, err
}

// bootFrom boots from an NBD server.
func bootFrom(uri string) (seconds float64, err error) {
	out, err := exec.Command("integration/vm/boot", uri).Output()
	if exit, ok := err.(*exec.ExitError); ok {
		return 0, fmt.Errorf("integration/vm/boot: %w: %s", err, exit.Stderr)
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

package diskuse

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A device is a disk, such as /dev/loop0, by its node and its name.
type device struct{ path, name string }

// Of says who has the disk at path, or a partition of it, mounted, built into
// another device, or open, each in words such as "mounted on /mnt". Descriptors
// of this process in ours do not count.
func Of(path string, ours ...int) []string {
	d := device{path, filepath.Base(path)}
	all := append(d.mounts(), d.holders()...)
	return append(all, d.openers(ours)...)
}

// is reports whether path names the device or a partition of it.
func (d device) is(path string) bool {
	rest, ok := strings.CutPrefix(path, d.path)
	return ok && (rest == "" || rest[0] == 'p')
}

// numbers are the device's and its partitions', as "7:0".
func (d device) numbers() map[string]bool {
	all := make(map[string]bool)
	dir := "/sys/block/" + d.name
	parts, _ := filepath.Glob(dir + "/" + d.name + "p*/dev")
	for _, name := range append(parts, dir+"/dev") {
		if b, err := os.ReadFile(name); err == nil {
			all[strings.TrimSpace(string(b))] = true
		}
	}
	return all
}

func (d device) mounts() (all []string) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	ours := d.numbers()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && ours[fields[2]] {
			all = append(all, "mounted on "+fields[4])
		}
	}
	return all
}

func (d device) holders() (all []string) {
	dir := "/sys/block/" + d.name
	whole, _ := filepath.Glob(dir + "/holders/*")
	parts, _ := filepath.Glob(dir + "/" + d.name + "p*/holders/*")
	for _, name := range append(whole, parts...) {
		all = append(all, "part of /dev/"+filepath.Base(name))
	}
	return all
}

// openers finds what it is allowed to see.
func (d device) openers(ours []int) (all []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	self := strconv.Itoa(os.Getpid())
	said := make(map[string]bool)
	for _, link := range links {
		path, err := os.Readlink(link)
		if err != nil || !d.is(path) {
			continue
		}
		fields := strings.Split(link, "/") // "", proc, PID, fd, N
		pid, fd := fields[2], fields[4]
		n, _ := strconv.Atoi(fd)
		if pid == self && slices.Contains(ours, n) || said[pid] {
			continue
		}
		said[pid] = true
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		all = append(all, "open by "+strings.TrimSpace(string(name))+" ("+pid+")")
	}
	return all
}

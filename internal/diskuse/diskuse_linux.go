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
	return of(path, func(o opener) bool { return o.has(ours) })
}

func of(path string, ours func(opener) bool) []string {
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

// An opener is an open descriptor of a process.
type opener struct{ pid, fd int }

// has reports whether it is one of these descriptors of this process.
func (o opener) has(ours []int) bool { return o.pid == os.Getpid() && slices.Contains(ours, o.fd) }

func (o opener) isOneOf(pids []int) bool { return slices.Contains(pids, o.pid) }

// openers finds what it is allowed to see.
func (d device) openers(ours func(opener) bool) (all []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	said := make(map[int]bool)
	for _, link := range links {
		path, err := os.Readlink(link)
		if err != nil || !d.is(path) {
			continue
		}
		fields := strings.Split(link, "/") // "", proc, PID, fd, N
		var o opener
		o.pid, _ = strconv.Atoi(fields[2])
		o.fd, _ = strconv.Atoi(fields[4])
		if ours(o) || said[o.pid] {
			continue
		}
		said[o.pid] = true
		name, _ := os.ReadFile("/proc/" + fields[2] + "/comm")
		all = append(all, "open by "+strings.TrimSpace(string(name))+" ("+fields[2]+")")
	}
	return all
}

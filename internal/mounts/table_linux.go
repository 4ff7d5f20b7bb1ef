package mounts

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An Entry is a line of /proc/self/mountinfo.
type Entry struct {
	Device  uint64
	Point   string
	Type    string
	Options string // of the file system, as it shows them: values are escaped as names of files are
}

// Table is what this process sees mounted, what covers behind what is covered.
func Table() ([]Entry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Entry
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlays have long options
	for lines.Scan() {
		if e, ok := Parse(lines.Text()); ok {
			all = append(all, e)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("/proc/self/mountinfo: %w", err)
	}
	return all, nil
}

// Parse reads "36 35 98:0 /root /point options [tags] - type source options".
func Parse(line string) (Entry, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, types := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(types) == 0 {
		return Entry{}, false
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err != nil {
		return Entry{}, false
	}
	e := Entry{Device: unix.Mkdev(major, minor), Point: unescape(fields[4]), Type: types[0]}
	if len(types) > 2 {
		e.Options = types[2]
	}
	return e, true
}

// Option is the value of an option of the file system, "" if it has none.
func (e Entry) Option(name string) string {
	for word := range strings.SplitSeq(e.Options, ",") { // those in values are escaped
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return unescape(value)
		}
	}
	return ""
}

// unescape undoes the kernel's \ooo for space, tab, newline, backslash and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Top is what one sees at path, the zero entry if nothing is mounted right there.
func Top(all []Entry, path string) (top Entry) {
	path = filepath.Clean(path)
	for _, e := range all {
		if e.Point == path {
			top = e
		}
	}
	return top
}

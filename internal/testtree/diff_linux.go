package testtree

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"caravel/catar/exclude"
	"caravel/feature"
)

// maxLines is how many differences are told.
const maxLines = 50

// Diff compares two trees as far as an archive with flags f keeps them, all
// bytes and all metadata, and returns one line for each difference, by path.
// What an archive with f leaves out (types without their feature, what chattr
// +d or a .caexclude excludes) is not looked at on either side. Of many
// differences the first are told, and then how many there are.
func Diff(a, b string, f feature.Flags) ([]string, error) {
	d := &differ{flags: f}
	na, err := openNode(unix.AT_FDCWD, a)
	if err != nil {
		return nil, err
	}
	defer na.close()
	nb, err := openNode(unix.AT_FDCWD, b)
	if err != nil {
		return nil, err
	}
	defer nb.close()
	if err := d.node(".", na, nb, exclude.Rules{}); err != nil {
		return nil, err
	}
	if d.count > len(d.lines) {
		d.lines = append(d.lines, fmt.Sprintf("and %d more", d.count-len(d.lines)))
	}
	return d.lines, nil
}

type differ struct {
	flags feature.Flags
	lines []string
	count int
}

// says adds a line.
func (d *differ) says(path, format string, args ...any) {
	d.count++
	if len(d.lines) < maxLines {
		d.lines = append(d.lines, strconv.Quote(path)+": "+fmt.Sprintf(format, args...))
	}
}

// node compares two nodes and what is below them. rules are those that reach
// into it if it is a directory.
func (d *differ) node(path string, a, b *node, rules exclude.Rules) error {
	if a.kind() != b.kind() {
		d.says(path, "%s, %s", a.kindName(), b.kindName())
		return nil
	}
	if err := d.metadata(path, a, b); err != nil {
		return fmt.Errorf("testtree: %q: %w", path, err)
	}
	switch a.kind() {
	case unix.S_IFREG:
		return d.content(path, a, b)
	case unix.S_IFDIR:
		return d.children(path, a, b, rules)
	}
	return nil
}

// children compares two directories' entries.
func (d *differ) children(path string, a, b *node, rules exclude.Rules) error {
	own, err := d.rules(a, b)
	if err != nil {
		return fmt.Errorf("testtree: %q: %w", path, err)
	}
	rules = rules.With(own)
	inA, err := d.kept(a, rules)
	if err != nil {
		return fmt.Errorf("testtree: %q: %w", path, err)
	}
	inB, err := d.kept(b, rules)
	if err != nil {
		return fmt.Errorf("testtree: %q: %w", path, err)
	}
	names := slices.Concat(inA, inB)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		child := name
		if path != "." {
			child = path + "/" + name
		}
		_, hasA := slices.BinarySearch(inA, name)
		_, hasB := slices.BinarySearch(inB, name)
		switch {
		case !hasB:
			d.says(child, "missing in the second tree")
		case !hasA:
			d.says(child, "missing in the first tree")
		default:
			if err := d.child(child, name, a, b, rules); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *differ) child(path, name string, a, b *node, rules exclude.Rules) error {
	na, err := openNode(a.fd, name)
	if err != nil {
		return err
	}
	defer na.close()
	nb, err := openNode(b.fd, name)
	if err != nil {
		return err
	}
	defer nb.close()
	return d.node(path, na, nb, rules.Below(name))
}

// rules reads the .caexclude of a directory: the first tree's, or if there is
// none there the second's. One tree may have lost it to a rule or to chattr +d.
func (d *differ) rules(dirs ...*node) (exclude.Rules, error) {
	if d.flags&feature.ExcludeFile == 0 {
		return exclude.Rules{}, nil
	}
	for _, dir := range dirs {
		fd, err := unix.Openat(dir.fd, exclude.Name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return exclude.Rules{}, err
		}
		f := os.NewFile(uintptr(fd), exclude.Name)
		defer f.Close()
		return exclude.Read(f)
	}
	return exclude.Rules{}, nil
}

// kept lists what an archive keeps of a directory's entries, sorted.
func (d *differ) kept(dir *node, rules exclude.Rules) ([]string, error) {
	names, err := list(dir.fd)
	if err != nil {
		return nil, err
	}
	kept := names[:0]
	for _, name := range names {
		ok, err := d.keeps(dir, name, rules)
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, name)
		}
	}
	return kept, nil
}

// keeps reports whether an archive has this child.
func (d *differ) keeps(dir *node, name string, rules exclude.Rules) (bool, error) {
	n, err := openNode(dir.fd, name)
	if err != nil {
		return false, err
	}
	defer n.close()
	if rules.Excludes(name, n.kind() == unix.S_IFDIR) {
		return false, nil
	}
	switch n.kind() {
	case unix.S_IFLNK:
		return d.flags&feature.Symlinks != 0, nil
	case unix.S_IFIFO:
		return d.flags&feature.FIFOs != 0, nil
	case unix.S_IFSOCK:
		return d.flags&feature.Sockets != 0, nil
	case unix.S_IFCHR, unix.S_IFBLK:
		return d.flags&feature.DeviceNodes != 0, nil
	}
	if d.flags&feature.ExcludeSubmounts != 0 && n.st.Mnt_id != dir.st.Mnt_id {
		return false, nil
	}
	return d.flags&feature.ExcludeNoDump == 0 || n.chattr()&feature.NoDump == 0, nil
}

// list reads the names in a directory, sorted.
func list(fd int) ([]string, error) {
	// A descriptor of its own: the position belongs to the open file.
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "directory")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

package treeoverlay

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"caravel/internal/apart"
	"caravel/internal/mounts"
)

// mountKernel puts the kernel's overlay over what is mounted on lower.
func (d *Dir) mountKernel(point string, opt Options) error {
	words := append([]string{
		"lowerdir=" + strings.ReplaceAll(escape(d.lower()), ":", `\:`), "upperdir=" + escape(d.upper()), "workdir=" + escape(d.work()),
		"redirect_dir=on", "xino=on", "index=off", "metacopy=off", "nfs_export=off",
	}, opt.Labels...)
	var flags uintptr
	for _, f := range []struct {
		set bool
		bit uintptr
	}{
		{!opt.SetID, unix.MS_NOSUID}, {!opt.Devices, unix.MS_NODEV}, {opt.NoExec, unix.MS_NOEXEC}, {opt.ReadOnly, unix.MS_RDONLY},
		{opt.Atime.Never, unix.MS_NOATIME}, {opt.Atime.NotOfDirs, unix.MS_NODIRATIME}, {opt.Atime.Always, unix.MS_STRICTATIME},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	var fs unix.Statfs_t
	var err error
	apart.Do(func() { // it looks at the tree, and may wait
		if err = unix.Mount(opt.FSName, point, "overlay", flags, strings.Join(words, ",")); err == nil {
			err = unix.Statfs(point, &fs)
		}
	})
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("overlayfs: %w; load the kernel's module (modprobe overlay)", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("overlayfs: %w; a container needs --cap-add SYS_ADMIN", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("overlayfs: %w; the kernel's log says why, mostly that the folder is on a file system that keeps no overlay's upper layer, as a network's or another overlay", err)
	case err != nil:
		return fmt.Errorf("overlayfs: %w", err)
	}
	// Which is what the kernel makes of it where it cannot work in the folder.
	if fs.Flags&unix.ST_RDONLY != 0 && !opt.ReadOnly {
		return errors.Join(errors.New("overlayfs: cannot be written; the kernel's log says why"), mounts.Detach(point, unix.MNT_DETACH))
	}
	return nil
}

// escape keeps a comma from ending a word.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(path)
}

// unescape undoes escape.
func unescape(word string) string {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] == '\\' && i+1 < len(word) {
			i++
		}
		b.WriteByte(word[i])
	}
	return b.String()
}

// clearStale takes away the overlays of this folder that are still mounted. As it is
// locked by this process, those who mounted them are dead.
func (d *Dir) clearStale(opt Options) error {
	all, err := mounts.Table()
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(all) {
		if e.Type != "overlay" || unescape(e.Option("upperdir")) != d.upper() {
			continue
		}
		if top := mounts.Top(all, e.Point); top.Device != e.Device {
			return fmt.Errorf("%s: has the mount of a process that was killed, covered by another (%s)", e.Point, top.Type)
		}
		if err := takeDead(e.Point, opt.Log); err != nil {
			return err
		}
		if all, err = mounts.Table(); err != nil {
			return err
		}
	}
	return nil
}

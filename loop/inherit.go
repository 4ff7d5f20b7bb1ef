//go:build linux

package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// File returns a descriptor that keeps the device when this process has ended, for
// another process to go on with by [Inherit]. As long as it is open, also
// elsewhere, the device is in use.
func (d *Device) File() (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("loop: %s: %w", d.Path, err)
	}
	return os.NewFile(uintptr(fd), d.Path), nil
}

// Inherit makes a Device of what another's File has returned, which stays the
// caller's.
func Inherit(file *os.File) (*Device, error) {
	d, err := inherit(file)
	if err != nil {
		return nil, fmt.Errorf("loop: %s: %w", file.Name(), err)
	}
	return d, nil
}

func inherit(file *os.File) (d *Device, err error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	closed := conn.Control(func(fd uintptr) { d, err = deviceOf(int(fd)) })
	return d, errors.Join(closed, err)
}

func deviceOf(fd int) (*Device, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if _, err := unix.IoctlLoopGetStatus64(fd); err != nil {
		return nil, err
	}
	number := strconv.Itoa(int(unix.Major(st.Rdev))) + ":" + strconv.Itoa(int(unix.Minor(st.Rdev)))
	link, err := os.Readlink("/sys/dev/block/" + number)
	if err != nil {
		return nil, err
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(link)
	return &Device{Path: "/dev/" + name, name: name, sequence: sequence(name), fd: own}, nil
}

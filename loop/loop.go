//go:build linux

package loop

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"caravel/internal/apart"
	"caravel/internal/diskuse"
)

// Options tunes a device. The zero value is a good choice.
type Options struct {
	SectorSize int    // bytes, a power of two from 512 to 4096; 0: 512
	Name       string // what losetup shows, cut to 63 bytes; "": the path
	Partitions bool   // have the kernel look for partitions (/dev/loopNpM)
	Buffered   bool   // keep what is read in the page cache of the file, too
}

// A Device is a loop device of this process. Its methods may be called from
// many goroutines.
type Device struct {
	Path string // /dev/loopN

	name     string // loopN
	sequence string // of this use of it
	mu       sync.Mutex
	fd       int // open as long as the device is to stay, then -1; guarded by mu
}

// tries is how many times another process may be faster than Attach.
const tries = 100

// Attach makes a read-only device of the file at path.
func Attach(path string, opt Options) (*Device, error) {
	opt.SectorSize = cmp.Or(opt.SectorSize, 512)
	opt.Name = cmp.Or(opt.Name, path)
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("loop: /dev/loop-control: %w%s", err, hint(err))
	}
	defer unix.Close(control)

	for range tries {
		d, err := attachFree(control, path, opt)
		if errors.Is(err, unix.EBUSY) {
			continue // someone took it between the two calls
		}
		if err != nil {
			return nil, fmt.Errorf("loop: %s: %w", path, err)
		}
		return d, nil
	}
	return nil, fmt.Errorf("loop: %s: no device stayed free in %d tries", path, tries)
}

func hint(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return "; load the kernel's module (modprobe loop), or give the container the devices"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "; loop devices take root"
	}
	return ""
}

func check(file, sector int) error {
	if sector < 512 || sector > 4096 || sector&(sector-1) != 0 {
		return fmt.Errorf("sector size %d: not a power of two from 512 to 4096", sector)
	}
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size%int64(sector) != 0 {
		return fmt.Errorf("size %d: not a multiple of the sector size %d", st.Size, sector)
	}
	return nil
}

func config(file int, opt Options) *unix.LoopConfig {
	c := &unix.LoopConfig{Fd: uint32(file), Size: uint32(opt.SectorSize)}
	// The device goes with its last user, so also when we are killed.
	c.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	if opt.Partitions {
		c.Info.Flags |= unix.LO_FLAGS_PARTSCAN
	}
	if !opt.Buffered {
		c.Info.Flags |= unix.LO_FLAGS_DIRECT_IO // the kernel drops it where the file cannot
	}
	copy(c.Info.File_name[:len(c.Info.File_name)-1], opt.Name)
	return c
}

// attachFree makes the device that the kernel calls free one of the file at path.
func attachFree(control int, path string, opt Options) (*Device, error) {
	n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("no free device: %w", err)
	}
	name := "loop" + strconv.Itoa(n)
	device := "/dev/" + name
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", device, err, hint(err))
	}
	apart.Do(func() { err = configure(fd, path, opt) }, fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Device{Path: device, name: name, sequence: sequence(name), fd: fd}, nil
}

// configure puts the file at path behind a device, in one step.
func configure(device int, path string, opt Options) error {
	// Not os.Open: the runtime would poll a file that may be our own.
	file, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	if err := check(file, opt.SectorSize); err != nil {
		return err
	}
	err = unix.IoctlLoopConfigure(device, config(file, opt))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		return fmt.Errorf("%w; Linux 5.8 or later is needed", err)
	}
	return err
}

// Detach takes the device away and returns when it is gone. One in use stays,
// and the error says who uses it; Detach may then be called again. If the
// process ends instead, the device goes with its last user.
func (d *Device) Detach() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := diskuse.Patiently(d.release); err != nil {
		return err
	}
	return diskuse.Patiently(d.gone)
}

// release lets go of a device that nobody else uses.
func (d *Device) release() error {
	if d.fd < 0 {
		return nil
	}
	claim, err := diskuse.Claim(d.Path, d.fd)
	if err != nil {
		return fmt.Errorf("loop: %w", err)
	}
	defer unix.Close(claim)
	if err := unix.IoctlSetInt(d.fd, unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("loop: %s: %w", d.Path, err)
	}
	unix.Close(d.fd)
	d.fd = -1
	return nil
}

// gone fails as long as someone who opened the device meanwhile keeps it. The
// kernel gives each use of a device a number, so that its next one, by
// whomever, is not taken for ours.
func (d *Device) gone() error {
	dir := "/sys/block/" + d.name
	_, err := os.Stat(dir + "/loop/backing_file")
	if err != nil || sequence(d.name) != d.sequence {
		return nil
	}
	return fmt.Errorf("loop: %w", &diskuse.InUseError{Path: d.Path, Users: diskuse.Of(d.Path, d.fd)})
}

func sequence(name string) string {
	b, _ := os.ReadFile("/sys/block/" + name + "/diskseq") // since Linux 5.15
	return string(b)
}

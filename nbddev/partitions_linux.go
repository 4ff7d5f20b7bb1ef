package nbddev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxPartitions is how many partitions of a device the kernel shows; it is
// a parameter of the driver (max_part).
func MaxPartitions() int {
	b, _ := os.ReadFile("/sys/module/nbd/parameters/max_part")
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// findPartitions opens the device: the kernel looks for partitions when the
// first one does after it has got its size.
func (d *Device) findPartitions() error {
	fd, err := unix.Open(d.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("nbddev: %s: %w", d.Path, err)
	}
	return unix.Close(fd)
}

// dropPartitions takes the partitions of the device away, which the kernel would
// show until the next one is attached. The device is open as fd.
func (d *Device) dropPartitions(fd int) error {
	dirs, _ := filepath.Glob(d.sys("nbd*p*/partition"))
	for _, name := range dirs {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			continue
		}
		if err := dropPartition(fd, n); err != nil && !errors.Is(err, unix.ENXIO) {
			return fmt.Errorf("nbddev: %sp%d: %w", d.Path, n, err)
		}
	}
	return nil
}

// Of the kernel's include/uapi/linux/blkpg.h.
type partitionArgument struct {
	op, flags, length int32
	_                 int32
	data              *partition
}

type partition struct {
	_      [2]int64 // start and length, which it knows
	number int32
	_      [64 + 64 + 4]byte // names that nobody reads, and what aligns them
}

func dropPartition(fd, number int) error {
	const remove = 2 // BLKPG_DEL_PARTITION
	p := &partition{number: int32(number)}
	a := &partitionArgument{op: remove, length: int32(unsafe.Sizeof(*p)), data: p}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKPG, uintptr(unsafe.Pointer(a)))
	if errno != 0 {
		return errno
	}
	return nil
}

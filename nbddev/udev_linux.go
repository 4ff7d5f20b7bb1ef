package nbddev

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hasUdev reports whether udev looks after devices here.
func hasUdev() bool {
	_, err := os.Stat("/run/udev/control")
	return err == nil
}

// Changed has udev, if there is one, look again at what its rules say of the device.
func (d *Device) Changed() error {
	if !hasUdev() {
		return nil
	}
	return d.change("")
}

// change has the kernel announce the device once more, with a mark if there is one.
func (d *Device) change(mark string) error {
	if err := os.WriteFile(d.sys("uevent"), []byte(strings.TrimSpace("change "+mark)), 0); err != nil {
		return fmt.Errorf("nbddev: %w", err)
	}
	return nil
}

// settle has the kernel announce the device once more, and waits until udev says
// that it is done with that: its rules may have had too little to go by the first
// time, and the links that they make must be there.
func (d *Device) settle(ctx context.Context) error {
	if !hasUdev() {
		return nil
	}
	l, err := listenToUdev()
	if err != nil {
		return fmt.Errorf("nbddev: udev: %w", err)
	}
	defer unix.Close(l)
	mark := newUUID()
	if err := d.change(mark); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, announcing, fmt.Errorf("nbddev: %s: udev is not done with it after %v", d.Path, announcing))
	defer cancel()
	return done(ctx, l, mark)
}

// done reads what udev tells on a socket until it is done with the event of that
// mark.
func done(ctx context.Context, socket int, mark string) error {
	want := []byte("\x00SYNTH_UUID=" + mark + "\x00")
	message := make([]byte, 16<<10)
	for {
		n, err := unix.Read(socket, message)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
		case err != nil:
			return fmt.Errorf("nbddev: udev: %w", err)
		case bytes.HasPrefix(message[:n], []byte("libudev\x00")) && bytes.Contains(message[:n], want):
			return nil
		}
	}
}

// listenToUdev opens the socket on which udev tells of what it is done with. A
// read of it waits for a short while only.
func listenToUdev() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1, err
	}
	const doneByUdev = 2 // the group; 1 is the kernel's own
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: doneByUdev})
	if err == nil {
		wait := unix.NsecToTimeval(int64(100 * time.Millisecond))
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// newUUID is a random one, as the kernel wants it for a mark of an event.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

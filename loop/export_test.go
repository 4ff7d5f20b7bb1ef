//go:build linux

package loop

import "golang.org/x/sys/unix"

// Leave lets go of the device as the end of the process does.
func (d *Device) Leave() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { d.fd = -1 }()
	return unix.Close(d.fd)
}

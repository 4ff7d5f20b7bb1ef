package nbddev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"caravel/internal/diskuse"
)

// Config is what the kernel is told of a device.
type Config struct {
	Size        int64         // in bytes, a multiple of BlockSize
	BlockSize   int           // of a sector: a power of two from 512 to 4096; 0: 512
	Timeout     time.Duration // a link that leaves a request unanswered for longer is lost; 0: none
	DeadTimeout time.Duration // requests wait so long for a new link when there is none; 0: they fail
	Identity    string        // of what is behind it; Reattach takes no other; "": none
	Writable    bool          // the server takes WRITE, FLUSH, FUA, TRIM and WRITE_ZEROES
}

func (c Config) filled() (Config, error) {
	c.BlockSize = cmp.Or(c.BlockSize, 512)
	switch {
	case c.BlockSize < 512 || c.BlockSize > 4096 || c.BlockSize&(c.BlockSize-1) != 0:
		return c, fmt.Errorf("nbddev: block size %d: not a power of two from 512 to 4096", c.BlockSize)
	case c.Size < 0 || c.Size%int64(c.BlockSize) != 0:
		return c, fmt.Errorf("nbddev: size %d: not a multiple of the block size %d", c.Size, c.BlockSize)
	case c.Timeout < 0 || c.DeadTimeout < 0:
		return c, fmt.Errorf("nbddev: negative time limit (%v, %v)", c.Timeout, c.DeadTimeout)
	case strings.ContainsAny(c.Identity, "\x00\n"):
		return c, fmt.Errorf("nbddev: identity %q: not one line", c.Identity)
	}
	return c, nil
}

// A Device is one of the kernel's devices.
type Device struct {
	Path  string // /dev/nbdN
	Index int    // N

	config Config
}

// At is the device of that number, which need not be there.
func At(index int) *Device {
	return &Device{Path: "/dev/nbd" + strconv.Itoa(index), Index: index}
}

// As is the same device as one that is attached, or to be taken over, as c says.
func (d *Device) As(c Config) *Device { return &Device{d.Path, d.Index, c} }

// Any lets the kernel choose a device that is free.
const Any = -1

// Attach makes a device of what is served at the other end of links: the one of
// that number, or Any. The kernel takes it in one step, so no two processes get
// the same.
func Attach(index int, links []*Link, c Config) (*Device, error) {
	defer handedOver(links)
	c, err := c.filled()
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		answers, err := request(cmdConnect, 0, func(ae *netlink.AttributeEncoder) {
			if index != Any {
				ae.Uint32(attrIndex, uint32(index))
			}
			c.describe(ae, links)
		})
		if err == nil {
			index, err := indexOf(answers)
			return At(index).As(c), err
		}
		// Whoever looks at a free device makes it busy for that moment.
		if errors.Is(err, unix.EBUSY) && index != Any && !At(index).Attached() && time.Now().Before(deadline) {
			continue
		}
		return nil, At(index).failed(err)
	}
}

// Reattach gives an attached device new links in the place of lost ones, as many
// as are lost; the kernel closes the others at once. A device with another
// identity stays as it is, and the error is EINVAL.
func (d *Device) Reattach(links []*Link) error {
	defer handedOver(links)
	c, err := d.config.filled()
	if err != nil {
		return err
	}
	_, err = request(cmdReconfigure, netlink.Acknowledge, func(ae *netlink.AttributeEncoder) {
		ae.Uint32(attrIndex, uint32(d.Index))
		c.describe(ae, links)
	})
	if err != nil {
		return d.failed(err)
	}
	return nil
}

const (
	patience = 500 * time.Millisecond // for programs that look at a device in passing
	pause    = 10 * time.Millisecond
)

// failed says what an error of the kernel means.
func (d *Device) failed(err error) error {
	where := "nbddev: " + d.Path
	if d.Index == Any {
		where = "nbddev"
	}
	switch {
	case errors.Is(err, ErrNoDriver):
		return err
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w; nbd devices take root", where, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s: %w: attached already, or in use", where, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// Detach takes the device away, whoever serves it, and returns when it is free.
// One that is in use stays, and the error, a [diskuse.InUseError], says who uses it.
func (d *Device) Detach() error {
	if !d.Attached() {
		return nil
	}
	if err := d.unused(); err != nil {
		return err
	}
	_, err := request(cmdDisconnect, netlink.Acknowledge, func(ae *netlink.AttributeEncoder) {
		ae.Uint32(attrIndex, uint32(d.Index))
	})
	if err != nil && d.Attached() {
		return d.failed(err)
	}
	for deadline := time.Now().Add(10 * time.Second); d.Attached(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			return fmt.Errorf("nbddev: %w", &diskuse.InUseError{Path: d.Path, Users: diskuse.Of(d.Path)})
		}
	}
	return nil
}

// unused makes sure that nobody uses the device, and that none of its partitions
// is left.
func (d *Device) unused() error {
	return diskuse.Patiently(func() error {
		fd, err := diskuse.Claim(d.Path)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) {
			return nil // it went meanwhile
		}
		if err != nil {
			return fmt.Errorf("nbddev: %w", err)
		}
		defer unix.Close(fd)
		return d.dropPartitions(fd)
	})
}

func (d *Device) sys(name string) string {
	return filepath.Join("/sys/block/nbd"+strconv.Itoa(d.Index), name)
}

// Attached reports whether there is something behind the device, be it served
// or waiting for a server.
func (d *Device) Attached() bool {
	_, err := os.Stat(d.sys("pid"))
	return err == nil
}

// announcing is how long the kernel, and then udev, may take to be done with
// a device that nobody reads for it.
const announcing = 10 * time.Second

// Announced waits until programs can use the device: the kernel knows its size,
// its node is there, its partitions are found, and udev, if it runs, is done.
// Looking for partitions reads the device, and takes as long as that does.
func (d *Device) Announced(ctx context.Context) error {
	if err := d.appeared(ctx); err != nil {
		return err
	}
	if err := d.findPartitions(); err != nil {
		return err
	}
	return d.settle(ctx)
}

// appeared waits for size and node.
func (d *Device) appeared(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, announcing, fmt.Errorf("nbddev: %s: not there after %v", d.Path, announcing))
	defer cancel()
	want := strconv.FormatInt(d.config.Size/512, 10)
	for {
		size, _ := os.ReadFile(d.sys("size"))
		_, err := os.Stat(d.Path)
		if err == nil && strings.TrimSpace(string(size)) == want {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

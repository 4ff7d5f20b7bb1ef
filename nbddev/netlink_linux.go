package nbddev

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of the kernel's include/uapi/linux/nbd-netlink.h.
const (
	cmdConnect     = 1
	cmdDisconnect  = 2
	cmdReconfigure = 3
	cmdStatus      = 5

	attrIndex       = 1  // u32
	attrSize        = 2  // u64, bytes
	attrBlockSize   = 3  // u64, bytes
	attrTimeout     = 4  // u64, seconds
	attrServerFlags = 5  // u64
	attrSockets     = 7  // nested: items, each with a descriptor
	attrDeadTimeout = 8  // u64, seconds
	attrDeviceList  = 9  // nested: items, each with an index and whether it is attached
	attrIdentity    = 10 // string

	sockItem = 1
	sockFD   = 1 // u32

	deviceItem     = 1
	deviceIndex    = 1 // u32
	deviceAttached = 2 // u8
)

// The transmission flags of the NBD protocol.
const (
	flagHasFlags    = 1 << 0
	flagReadOnly    = 1 << 1
	flagFlush       = 1 << 2
	flagFUA         = 1 << 3
	flagTrim        = 1 << 5
	flagWriteZeroes = 1 << 6
	flagMultiConn   = 1 << 8
)

// ErrNoDriver is the error where the kernel has no nbd driver, or has not loaded
// it.
var ErrNoDriver = errors.New("nbddev: the kernel has no nbd driver loaded; load it (modprobe nbd)")

// request sends one command to the driver and returns its answers.
func request(command uint8, flags netlink.HeaderFlags, attributes func(*netlink.AttributeEncoder)) ([]genetlink.Message, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("nbddev: generic netlink: %w", err)
	}
	defer c.Close()
	family, err := c.GetFamily("nbd")
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoDriver
	}
	if err != nil {
		return nil, fmt.Errorf("nbddev: generic netlink: %w", err)
	}
	ae := netlink.NewAttributeEncoder()
	attributes(ae)
	data, err := ae.Encode()
	if err != nil {
		return nil, fmt.Errorf("nbddev: %w", err)
	}
	m := genetlink.Message{Header: genetlink.Header{Command: command, Version: family.Version}, Data: data}
	answers, err := c.Execute(m, family.ID, netlink.Request|flags)
	var errno unix.Errno
	if errors.As(err, &errno) {
		return nil, errno // without the words that netlink puts around it
	}
	return answers, err
}

// describe writes what the kernel is to know of a device.
func (c Config) describe(ae *netlink.AttributeEncoder, links []*Link) {
	ae.Uint64(attrSize, uint64(c.Size))
	ae.Uint64(attrBlockSize, uint64(c.BlockSize))
	ae.Uint64(attrServerFlags, c.flags())
	ae.Uint64(attrTimeout, seconds(c.Timeout))
	ae.Uint64(attrDeadTimeout, seconds(c.DeadTimeout))
	if c.Identity != "" {
		ae.String(attrIdentity, c.Identity)
	}
	ae.Nested(attrSockets, func(list *netlink.AttributeEncoder) error {
		for _, l := range links {
			list.Nested(sockItem, func(item *netlink.AttributeEncoder) error {
				item.Uint32(sockFD, uint32(l.kernel))
				return nil
			})
		}
		return nil
	})
}

func (c Config) flags() uint64 {
	if !c.Writable {
		return flagHasFlags | flagMultiConn | flagReadOnly
	}
	return flagHasFlags | flagMultiConn | flagFlush | flagFUA | flagTrim | flagWriteZeroes
}

// seconds rounds up: a limit of less than a second is none to the kernel.
func seconds(d time.Duration) uint64 { return uint64((d + time.Second - 1) / time.Second) }

// indexOf reads the number of a device from the answer to CONNECT.
func indexOf(answers []genetlink.Message) (int, error) {
	for _, m := range answers {
		ad, err := netlink.NewAttributeDecoder(m.Data)
		if err != nil {
			return 0, fmt.Errorf("nbddev: answer of the kernel: %w", err)
		}
		for ad.Next() {
			if ad.Type() == attrIndex {
				index := ad.Uint32()
				return int(index), ad.Err()
			}
		}
		if err := ad.Err(); err != nil {
			return 0, fmt.Errorf("nbddev: answer of the kernel: %w", err)
		}
	}
	return 0, errors.New("nbddev: the kernel does not say which device it took")
}

// attached reads the numbers of the attached devices from the answer to STATUS.
func attached(answers []genetlink.Message) (all []int, err error) {
	for _, m := range answers {
		ad, err := netlink.NewAttributeDecoder(m.Data)
		if err != nil {
			return nil, fmt.Errorf("nbddev: answer of the kernel: %w", err)
		}
		for ad.Next() {
			if ad.Type() != attrDeviceList {
				continue
			}
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					if list.Type() == deviceItem {
						list.Nested(func(item *netlink.AttributeDecoder) error { return one(item, &all) })
					}
				}
				return list.Err()
			})
		}
		if err := ad.Err(); err != nil {
			return nil, fmt.Errorf("nbddev: answer of the kernel: %w", err)
		}
	}
	return all, nil
}

func one(item *netlink.AttributeDecoder, all *[]int) error {
	index, is := uint32(0), false
	for item.Next() {
		switch item.Type() {
		case deviceIndex:
			index = item.Uint32()
		case deviceAttached:
			is = item.Uint8() != 0
		}
	}
	if is {
		*all = append(*all, int(index))
	}
	return item.Err()
}

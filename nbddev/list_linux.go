package nbddev

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
)

// A State is what the kernel says of an attached device.
type State struct {
	Index     int
	Size      int64  // in bytes
	BlockSize int    // of a sector
	Identity  string // as it was attached; "": without
}

// List finds all devices that are attached, by whomever, in the order of their
// numbers.
func List() ([]State, error) {
	// Without a number the kernel tells of all.
	answers, err := request(cmdStatus, 0, func(*netlink.AttributeEncoder) {})
	if err != nil {
		return nil, At(Any).failed(err)
	}
	indexes, err := attached(answers)
	if err != nil {
		return nil, err
	}
	slices.Sort(indexes)
	var all []State
	for _, n := range indexes {
		s, ok, err := Look(n)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// Look finds out about one device. It reports false if that is not attached.
func Look(index int) (State, bool, error) {
	d := At(index)
	if !d.Attached() {
		return State{}, false, nil
	}
	sectors, err := d.number("size")
	if err != nil {
		return State{}, false, err
	}
	block, err := d.number("queue/logical_block_size")
	if err != nil {
		return State{}, false, err
	}
	identity, _ := os.ReadFile(d.sys("backend")) // only where there is one
	return State{
		Index:     index,
		Size:      sectors * 512,
		BlockSize: int(block),
		Identity:  strings.TrimSuffix(string(identity), "\n"),
	}, true, nil
}

func (d *Device) number(name string) (int64, error) {
	b, err := os.ReadFile(d.sys(name))
	if err != nil {
		return 0, fmt.Errorf("nbddev: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("nbddev: %s: %w", d.sys(name), err)
	}
	return n, nil
}

// Index is the number in a path like /dev/nbd3; ok is false for any other path.
func Index(path string) (n int, ok bool) {
	digits, found := strings.CutPrefix(path, "/dev/nbd")
	n, err := strconv.Atoi(digits)
	return n, found && err == nil && n >= 0 && n < 1<<20 && digits == strconv.Itoa(n)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"caravel/internal/claim"
	"caravel/nbddev"
)

// A deviceNode is where a user wants to find a device.
type deviceNode struct {
	index int    // of the nbd device; nbddev.Any: no matter
	link  string // the path of a link to it; "": none
}

// parseNode reads /dev/nbdN, or the path of a link; "" is neither.
func parseNode(node string) (deviceNode, error) {
	n := deviceNode{index: nbddev.Any}
	if node == "" {
		return n, nil
	}
	path, err := filepath.Abs(node)
	if err != nil {
		return n, err
	}
	if index, ok := nbddev.Index(path); ok {
		n.index = index
		return n, nil
	}
	if isLoop(path) {
		return n, usagef("%s: no loop device can be chosen; NODE is /dev/nbdN, or the name of a link", node)
	}
	n.link = path
	if strings.Trim(n.udevName(), udevCharacters) != "" {
		return n, usagef("%s: a name below /dev has letters, digits and any of #+-.:=@_/ only", node)
	}
	return n, nil
}

// udevCharacters are those that udev leaves as they are in the name of a link.
const udevCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_/"

// udevName is the link's name below /dev, where links are udev's; "" elsewhere.
func (n deviceNode) udevName() string {
	if name, ok := strings.CutPrefix(n.link, "/dev/"); ok {
		return name
	}
	return ""
}

// linked is the nbd or loop device that the link leads to, "" if there is no link,
// or one to something else, be it a partition.
func (n deviceNode) linked() string {
	to, err := os.Readlink(n.link)
	if err != nil {
		return ""
	}
	if !filepath.IsAbs(to) { // as udev's are
		to = filepath.Join(filepath.Dir(n.link), to)
	}
	if _, nbd := nbddev.Index(to); nbd || isLoop(to) {
		return to
	}
	return ""
}

// isLoop reports whether path is that of a whole loop device.
func isLoop(path string) bool {
	digits, ok := strings.CutPrefix(path, "/dev/loop")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// free fails if something has the link's name that must stay, which is all but
// a link to a whole device like ours.
func (n deviceNode) free() error {
	if n.link == "" || n.linked() != "" {
		return nil
	}
	_, err := os.Lstat(n.link)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s: file exists", n.link)
	}
	return err
}

// make makes the link to a device unless udev has made it. It takes the place of
// one to a device that is no more.
func (n deviceNode) make(device string) error {
	if n.link == "" {
		return nil
	}
	if err := n.free(); err != nil {
		return err
	}
	switch to := n.linked(); {
	case to == device:
		return nil
	case to != "" && hasFile(to):
		return fmt.Errorf("%s: leads to %s, which is attached", n.link, to)
	case to != "":
		if err := os.Remove(n.link); err != nil {
			return err
		}
	}
	if dir := filepath.Dir(n.link); strings.HasPrefix(dir, "/dev/") { // as udev would
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Symlink(device, n.link)
}

// hasFile reports whether there is something behind a device.
func hasFile(device string) bool {
	if index, ok := nbddev.Index(device); ok {
		return nbddev.At(index).Attached()
	}
	_, err := os.Stat("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	return err == nil
}

// remove removes the link to a device, unless it is another's by now.
func (n deviceNode) remove(device string) {
	if n.link != "" && n.linked() == device {
		os.Remove(n.link)
	}
}

// forget removes the link to a device that this process had, unless who has the
// device by now has the link, too.
func (n deviceNode) forget(device string) {
	if n.link == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if dir, err := claim.Lock(ctx, claim.Dir); err == nil { // else nobody has records here
		defer dir.Unlock()
		if r, err := claim.Find(claim.Dir, filepath.Base(device)); err == nil && r.Alive && r.Link == n.link {
			return
		}
	}
	n.remove(device)
}

//go:build linux

package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"caravel/internal/mounts"
)

const (
	fuseDevice     = "/dev/fuse"
	containerNeeds = "--device /dev/fuse --cap-add SYS_ADMIN"
)

// attach mounts on dir and returns the descriptor that carries the kernel's
// requests: by itself where it may, else by the set-user-ID helper of fuse3.
func attach(dir string, opt Options) (int, error) {
	fd, err := attachDirect(dir, opt)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		refused := err
		fd, err = attachByHelper(dir, opt)
		if err != nil && os.Geteuid() == 0 {
			err = fmt.Errorf("%w; a container needs %s", refused, containerNeeds)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("fusefs: %s: %w", dir, err)
	}
	return fd, nil
}

func attachDirect(dir string, opt Options) (int, error) {
	fd, err := unix.Open(fuseDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("%s: %w; load the kernel's module (modprobe fuse); a container needs %s", fuseDevice, err, containerNeeds)
	case err != nil:
		return -1, fmt.Errorf("%s: %w", fuseDevice, err)
	}
	data := []string{fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d", fd, unix.S_IFDIR, os.Geteuid(), os.Getegid())}
	data = append(data, opt.kernelOptions()...)
	flags := uintptr(unix.MS_RDONLY)
	for _, f := range opt.flags() {
		flags |= f.bit
	}
	err = unix.Mount(opt.FSName, dir, "fuse."+subtype, flags, strings.Join(data, ","))
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("mount: %w", err)
	}
	return fd, nil
}

// A mountFlag is one that mount(2) takes as a bit and fusermount3 by its name.
type mountFlag struct {
	name string
	bit  uintptr
}

// flags are those of the mount but that it is read-only.
func (o Options) flags() []mountFlag {
	var all []mountFlag
	for _, f := range []struct {
		mountFlag
		set bool
	}{
		{mountFlag{"nosuid", unix.MS_NOSUID}, !o.SetID},
		{mountFlag{"nodev", unix.MS_NODEV}, !o.Devices},
		{mountFlag{"noexec", unix.MS_NOEXEC}, o.NoExec},
	} {
		if f.set {
			all = append(all, f.mountFlag)
		}
	}
	return all
}

// kernelOptions are for the file system and the security module.
func (o Options) kernelOptions() []string {
	all := []string{"default_permissions", "max_read=" + strconv.Itoa(maxRead)}
	if o.Others || os.Geteuid() == 0 {
		all = append(all, "allow_other")
	}
	return append(all, o.Labels...)
}

// attachByHelper has fusermount3 open the device, mount it and hand it over.
func attachByHelper(dir string, opt Options) (int, error) {
	helper, err := mounts.Helper()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "fusermount3")
	defer theirs.Close()

	options := []string{"ro", "fsname=" + escapeOption(opt.FSName), "subtype=" + subtype}
	for _, f := range opt.flags() {
		options = append(options, f.name)
	}
	options = append(options, opt.kernelOptions()...)
	cmd := exec.Command(helper, "-o", strings.Join(options, ","), "--", dir)
	cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	cmd.Env = []string{"_FUSE_COMMFD=3"}
	if err := mounts.RunHelper(cmd); err != nil {
		return -1, err
	}
	theirs.Close()
	fd, _, err := receiveFD(pair[0], 1, 0)
	if err != nil {
		return -1, fmt.Errorf("fusermount3: %w", err)
	}
	return fd, nil
}

// escapeOption keeps a comma from ending an option.
func escapeOption(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s)
}

// receiveFD takes a descriptor from a socket, and up to n bytes that came with it.
func receiveFD(socket, n, flags int) (fd int, with []byte, err error) {
	with = make([]byte, n)
	control := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := unix.Recvmsg(socket, with, control, flags|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, nil, errNoDescriptor
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, nil, errNoDescriptor
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		unix.Close(fds[0])
		return -1, nil, errors.New("message is too long")
	}
	return fds[0], with[:n], nil
}

var errNoDescriptor = errors.New("gave no descriptor")

// detach unmounts what is on dir. Of flags, the helper knows MNT_DETACH only.
func detach(dir string, flags int) error {
	if err := mounts.Detach(dir, flags); err != nil {
		return fmt.Errorf("fusefs: %w", err)
	}
	return nil
}

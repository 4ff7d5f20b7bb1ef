package mounts

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Detach unmounts what is on dir. Of flags, the helper knows MNT_DETACH only.
func Detach(dir string, flags int) error {
	err := unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) {
		err = detachByHelper(dir, flags&unix.MNT_DETACH != 0)
	}
	if err != nil {
		return fmt.Errorf("%s: unmount: %w", dir, err)
	}
	return nil
}

func detachByHelper(dir string, lazy bool) error {
	helper, err := Helper()
	if err != nil {
		return err
	}
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	return RunHelper(exec.Command(helper, append(args, "--", dir)...))
}

// Helper is the path of the program that mounts for those who may not.
func Helper() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount", "/usr/bin/fusermount3", "/bin/fusermount3"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("fusermount3: not there, and only root mounts without it; install fuse3")
}

// RunHelper runs cmd; what it complains of is the error.
func RunHelper(cmd *exec.Cmd) error {
	var said strings.Builder
	cmd.Stderr = &said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(said.String()); text != "" {
		return errors.New(strings.ReplaceAll(text, "\n", "; "))
	}
	return fmt.Errorf("%s: %w", cmd.Path, err)
}

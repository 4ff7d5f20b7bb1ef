package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/nbddev"
)

// The values of --via.
const (
	viaAuto = "auto"
	viaNBD  = "nbd"
	viaLoop = "loop"
)

type mkdevOptions struct {
	lazy        lazyOptions
	overlay     overlayOptions
	via         string
	blockSize   int64
	connections int
	deadTimeout time.Duration
	supervise   bool
	list        bool
	json        bool
	detach      bool
}

func mkdevCommand() *cli.Command {
	opt := mkdevOptions{via: viaAuto, blockSize: 512, connections: 4, deadTimeout: time.Minute}
	return &cli.Command{
		Name:      "mkdev",
		Category:  lazily,
		Usage:     "attach an image as a block device without downloading it",
		ArgsUsage: "INDEX|FILE [NODE]",
		Description: `Attaches the image as a block device of the kernel's nbd driver; where the kernel
has none, as a loop device over a file that is fetched as it is read. It is
read-only, and its size is rounded up to whole sectors with zeros. Prints
"Attached: DEVICE" when it can be read, and stays until SIGINT or SIGTERM. Needs
root. What is kept, and what is fetched in the background, is as in caravel mount.

With --overlay an nbd device can be written to: what is written is in FILE, which a
later run goes on with, over the same image and with the size that it has.

NODE is the device to be taken, /dev/nbdN (nbd), or the name of a link to whichever
device is free; the link is removed at the end.

If mkdev is killed, the nbd device stays and reads of it wait for --dead-timeout:
mkdev of the same image, with the same NODE and --overlay if they were given, goes
on with it.
With --supervise it does so by itself; on SIGHUP it puts the program that lies at
its path by then in its place, which reads --store-file anew. Reads under way when it was killed are asked again
--timeout and some 10 s later, with --timeout=0 after 30 s. A device in use is not
detached at the end, but waits in the same way; the exit status is 1 then.

A loop device ends with mkdev, and reads of one in use fail then; the exit status is
1. With --supervise (Linux 6.9) it goes on in the same way when the process that
serves it is killed or replaced, and reads under way go on at once; that process's
parent must live.

` + examples(
			"caravel mkdev http://host/disk.caibx",
			"caravel mkdev --supervise http://host/disk.caibx /dev/golden",
			"mount -o ro /dev/golden /mnt",
			"caravel mkdev --overlay vm.overlay http://host/disk.caibx /dev/vm",
			"caravel mkdev --list",
			"caravel mkdev --detach /dev/golden",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.GenericFlag{Name: "via", Usage: "take a device of `DRIVER`: nbd, loop, or auto, nbd where the kernel has it", Value: viaValue(&opt.via)},
			&cli.GenericFlag{Name: "block-size", Usage: "make sectors of `SIZE` bytes: 512 to 4096", Value: sizeValue(&opt.blockSize)},
			&cli.GenericFlag{Name: "connections", Usage: "have `N` connections to the kernel (nbd)", Value: workersValue(&opt.connections)},
			&cli.GenericFlag{Name: "dead-timeout", Usage: "let reads wait for `TIME` when nobody serves the device (nbd)", Value: durationValue(&opt.deadTimeout)},
			newSwitch("supervise", "start again what crashes, replace it on SIGHUP", &opt.supervise),
			newSwitch("list", "show the devices that any mkdev has attached, and do nothing else", &opt.list),
			jsonFlag(&opt.json),
			newSwitch("detach", "detach the device NODE, whichever mkdev attached it", &opt.detach),
		}, overlayFlags(&opt.overlay), lazyFlags(&opt.lazy)),
		Action: func(c *cli.Context) error {
			if err := opt.check(c.NArg()); err != nil {
				return err
			}
			if err := refuseEmpty(c, "overlay"); err != nil {
				return err
			}
			first, second := c.Args().Get(0), c.Args().Get(1)
			switch {
			case opt.list:
				return listDevices(streamsOf(c), opt.json)
			case opt.detach:
				return detachDevice(c.Context, first)
			}
			return mkdev(c.Context, streamsOf(c), first, second, opt)
		},
	}
}

func (o mkdevOptions) check(arguments int) error {
	switch {
	case o.list && o.detach:
		return usagef("say either --list or --detach")
	case o.list && arguments != 0:
		return usagef("--list takes no arguments, not %d", arguments)
	case o.detach && arguments != 1:
		return usagef("want one NODE to --detach, not %d arguments", arguments)
	case o.list || o.detach:
		return nil
	case o.json:
		return usagef("--json goes with --list")
	case arguments < 1 || arguments > 2:
		return usagef("want INDEX or FILE and perhaps NODE, not %d arguments", arguments)
	case o.blockSize < 512 || o.blockSize > 4096 || o.blockSize&(o.blockSize-1) != 0:
		return usagef("--block-size=%d: want 512, 1K, 2K or 4K", o.blockSize)
	case o.via == viaLoop && o.overlay.file != "":
		return usagef("--overlay: a loop device here is read-only; nbd-server has --overlay, too")
	case o.connections > maxConnections:
		return usagef("--connections=%d: want %d at most", o.connections, maxConnections)
	}
	return o.overlay.check()
}

func viaValue(to *string) cli.Generic {
	parse := func(s string) (string, error) {
		if s != viaAuto && s != viaNBD && s != viaLoop {
			return "", errors.New("want nbd, loop or auto")
		}
		return s, nil
	}
	return &value[string]{to, parse, func(s string) string { return s }}
}

// mkdev attaches a device and stays until it is told to end.
func mkdev(ctx context.Context, std streams, in, node string, opt mkdevOptions) error {
	at, err := parseNode(node)
	if err != nil {
		return err
	}
	if opt.via == viaLoop && at.index != nbddev.Any {
		return usagef("%s: --via=loop takes whichever loop device is free; NODE may be the name of a link to it", node)
	}
	w, err := supervised(in, opt)
	if err != nil {
		return err
	}
	if w == nil && opt.supervise {
		return superviseSelf(ctx, std, opt.lazy.log.logger(std.log))
	}
	to := deviceImage{opt: opt, node: at, boss: w}
	if opt.via == viaLoop || leftHeld(w) != nil {
		return mkdevLoop(ctx, std, in, "", to)
	}
	missing := needNBD(ctx)
	switch {
	case missing == nil:
		return mkdevNBD(ctx, std, in, to)
	case opt.via == viaAuto && opt.overlay.file == "" && at.index == nbddev.Any && errors.Is(missing, nbddev.ErrNoDriver):
		return mkdevLoop(ctx, std, in, noNBD, to)
	case opt.overlay.file != "" && errors.Is(missing, nbddev.ErrNoDriver):
		return fmt.Errorf("--overlay: %w; without it, caravel nbd-server --overlay serves such a disk to a virtual machine (see qemu in its examples)", missing)
	}
	return missing
}

// noNBD says why the device is a loop device.
const noNBD = "a loop device is used, as the kernel has no nbd driver"

// needNBD makes sure of the kernel's driver.
func needNBD(ctx context.Context) error {
	_, err := nbddev.List()
	if !errors.Is(err, nbddev.ErrNoDriver) {
		return err
	}
	// Of no use unless root, and then the old error says what to do.
	if exec.CommandContext(ctx, "modprobe", "nbd").Run() != nil {
		return err
	}
	_, err = nbddev.List()
	return err
}

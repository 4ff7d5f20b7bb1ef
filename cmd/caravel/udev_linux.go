package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"caravel/internal/claim"
)

func udevCommand() *cli.Command {
	return &cli.Command{
		Name:      "udev",
		Category:  self,
		Usage:     "tell udev which name a device was given",
		ArgsUsage: "DEVICE",
		Description: `For the udev rule that comes with caravel: prints CARAVEL_NAME=NAME if a process
of mkdev serves the device and was told to name it /dev/NAME, and nothing otherwise.

` + examples("caravel udev nbd0"),
		Hidden: true,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("want one DEVICE, not %d arguments", c.NArg())
			}
			return udevName(c.App.Writer, claim.Dir, c.Args().First())
		},
	}
}

// udevName prints the name of a device, if it has one. Anything else is no error:
// udev asks about each device.
func udevName(w io.Writer, dir, device string) error {
	r, err := claim.Find(dir, filepath.Base(device))
	name := deviceNode{link: r.Link}.udevName()
	if err != nil || !r.Alive || name == "" {
		return nil
	}
	_, err = fmt.Fprintf(w, "CARAVEL_NAME=%s\n", name)
	return err
}

package main

import "github.com/urfave/cli/v2"

// platformCommands are the commands that need Linux: FUSE, block devices.
func platformCommands() []*cli.Command {
	return []*cli.Command{
		mountCommand(),
		mountIndexCommand(),
		mkdevCommand(),
		udevCommand(),
	}
}

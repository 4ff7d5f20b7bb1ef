//go:build !linux

package main

import "github.com/urfave/cli/v2"

// platformCommands are none: what needs FUSE or block devices is Linux's.
func platformCommands() []*cli.Command { return nil }

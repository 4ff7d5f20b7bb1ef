package main

import (
	"io"

	"github.com/urfave/cli/v2"
)

// The groups of commands, in the order in which help shows them.
const (
	images  = "Images"
	lazily  = "Reading lazily"
	stores  = "Stores"
	serving = "Serving"
	self    = "caravel itself"
)

func groups() []string { return []string{images, lazily, stores, serving, self} }

// commands are the commands that work on every platform; platformCommands has
// the others.
func commands() []*cli.Command {
	return []*cli.Command{
		makeCommand(),
		extractCommand(),
		listCommand(),
		mtreeCommand(),
		statCommand(),
		digestCommand(),
		catCommand(),
		diffCommand(),
		tarCommand(),
		untarCommand(),
		cacheCommand(),
		copyCommand(),
		chopCommand(),
		infoCommand(),
		inspectChunksCommand(),
		listChunksCommand(),
		prepareCommand(),
		chunkCommand(),
		verifyCommand(),
		pruneCommand(),
		gcCommand(),
		verifyIndexCommand(),
		nbdServerCommand(),
		pullCommand(),
		pushCommand(),
		profileCommand(),
		treeCommand(),
		serveCommand(),
		chunkServerCommand(),
		indexServerCommand(),
		demoCommand(),
		configCommand(),
		completionCommand(),
		manpageCommand(),
		versionCommand(),
		helpCommand(),
	}
}

// newApp puts the commands of this platform together.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	return newAppOf(append(platformCommands(), commands()...), stdin, stdout, stderr)
}

// newAppOf makes an app of commands. What urfave/cli does by itself is mostly
// turned off: its help command would stand in for an argument called "help" or
// "h", its errors would go to stdout, and it would end the process.
func newAppOf(commands []*cli.Command, stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "caravel",
		Usage:     "deliver file systems and disk images as chunks, and read them lazily",
		Commands:  commands,
		Flags:     []cli.Flag{newSwitch("version", "print the version", new(bool))},
		Reader:    stdin,
		Writer:    stdout,
		ErrWriter: stderr,

		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // a path may hold a comma
		OnUsageError:              explainFlag,
		ExitErrHandler:            func(*cli.Context, error) {}, // run prints errors
	}
	for _, cmd := range app.Commands {
		cmd.HideHelp = true
		cmd.OnUsageError = explainFlag
	}
	return app
}

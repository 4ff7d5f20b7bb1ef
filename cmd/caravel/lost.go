package main

import (
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"

	"caravel/tarball"
)

// bestEffortFlag lets a tree pass from one form into another that cannot hold all of it.
func bestEffortFlag(to *bool) cli.Flag {
	return newSwitch("best-effort", "leave out what cannot be kept, and only say so", to)
}

// reportLost says what is not kept of in. That is an error, unless the user wants no
// more than what can be.
func reportLost(log *slog.Logger, in string, lost tarball.Lost, bestEffort bool) error {
	for _, what := range lost.First {
		log.Warn("not kept: " + what)
	}
	if more := lost.Count - len(lost.First); more > 0 {
		log.Warn("not kept: more of that", "count", more)
	}
	switch {
	case lost.Count == 0 || bestEffort:
		return nil
	case lost.Count == 1:
		return fmt.Errorf("%s: one thing cannot be kept; --best-effort leaves it out", in)
	}
	return fmt.Errorf("%s: %d things cannot be kept; --best-effort leaves them out", in, lost.Count)
}

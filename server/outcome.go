package server

import (
	"log/slog"

	"caravel/internal/hush"
)

// An outcome is what a handler says of what has gone wrong: to the client, and once a
// minute to the log.
type outcome struct {
	missing string // for the client
	log     *slog.Logger
	said    *hush.Texts
}

func newOutcome(missing string, log *slog.Logger) outcome {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return outcome{missing, log, new(hush.Texts)}
}

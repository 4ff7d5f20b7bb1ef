package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
)

// chunkSizeFlags are casync's --chunk-size and desync's -m, which counts in
// KiB. The last one given counts.
func chunkSizeFlags(to *chunker.Params) []cli.Flag {
	typed := ""
	parse := func(s string) (chunker.Params, error) {
		typed = s
		return chunker.ParseParams(s)
	}
	return []cli.Flag{
		&cli.GenericFlag{
			Name:  "chunk-size",
			Usage: "cut into chunks of `AVG` or MIN:AVG:MAX bytes, such as 64K or 16K:64K:256K",
			Value: &value[chunker.Params]{to, parse, showParams},
			Action: func(c *cli.Context, _ any) error {
				if looksLikeKiB(typed) {
					fmt.Fprintf(c.App.ErrWriter, "caravel: --chunk-size=%s is read as bytes; if KiB are meant, say -m %s\n", typed, typed)
				}
				return nil
			},
		},
		&cli.GenericFlag{
			Name:        "m",
			Usage:       "cut into chunks of `MIN:AVG:MAX` KiB",
			DefaultText: "16:64:256",
			Value:       &value[chunker.Params]{to, parseKiB, chunker.Params.String},
		},
	}
}

func showParams(p chunker.Params) string {
	return showSize(int64(p.Min)) + ":" + showSize(int64(p.Avg)) + ":" + showSize(int64(p.Max))
}

// looksLikeKiB reports whether s is what a user of desync would type: three
// plain numbers too small for bytes.
func looksLikeKiB(s string) bool {
	three := strings.Split(s, ":")
	for _, part := range three {
		if n, err := strconv.ParseUint(part, 10, 64); err != nil || n >= 1024 {
			return false
		}
	}
	return len(three) == 3
}

func parseKiB(s string) (chunker.Params, error) {
	three := strings.Split(s, ":")
	if len(three) != 3 {
		return chunker.Params{}, errors.New("want MIN:AVG:MAX in KiB, such as 16:64:256")
	}
	var bytes [3]int
	for i, part := range three {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || n > chunker.MaxSize>>10 {
			return chunker.Params{}, fmt.Errorf("%q: want a number of KiB from 1 to %d", part, chunker.MaxSize>>10)
		}
		bytes[i] = n << 10
	}
	p := chunker.Params{Min: bytes[0], Avg: bytes[1], Max: bytes[2]}
	return p, p.Valid()
}

package main

import (
	"context"
	"errors"
	"log/slog"

	"caravel/internal/redact"
	"caravel/supervise"
)

// A deviceImage is an image that becomes a device, by whichever driver.
type deviceImage struct {
	opt  mkdevOptions
	node deviceNode
	boss *supervise.Supervisor // nil: none

	image    string // where it lies, without secrets
	identity string // "": not known for sure
	log      *slog.Logger
}

// open opens the image at in for attach, which serves it to its end. A whole one is
// known for sure, as its index is read before.
func (d deviceImage) open(ctx context.Context, std streams, in string, whole bool, attach func(deviceImage, *lazyImage) error) (err error) {
	from, err := startLazy(ctx, std, d.opt.lazy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	from.whole = whole
	img, err := from.open(ctx, in)
	if err != nil {
		return err
	}
	defer img.Close()
	d.image, d.log = redact.URL(in), from.log
	return attach(d, img)
}

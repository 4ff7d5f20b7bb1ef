package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"caravel/config"
)

// storeFileFlag is for the commands that run on while their stores change.
func storeFileFlag(opt *sourceOptions) cli.Flag {
	return &cli.StringFlag{
		Name:        "store-file",
		Usage:       `take stores and cache from the JSON in ` + "`FILE`" + `, {"stores": […], "cache": "…"}, in place of --store and --cache; it is read again on SIGHUP`,
		Destination: &opt.storeFile,
	}
}

// readStoreFile takes the stores from the file of --store-file.
func (o *sourceOptions) readStoreFile() error {
	if o.storeFile == "" {
		return nil
	}
	if len(o.stores) > 0 && !o.storesFromEnv() || len(o.extraStores) > 0 || o.cache != "" {
		return usagef("--store-file names the stores and the cache: leave out --store, --extra-store and --cache")
	}
	f, err := config.LoadStoreFile(o.storeFile)
	if err != nil {
		return err
	}
	o.stores, o.cache = f.Stores, f.Cache
	return nil
}

// storesFromEnv reports whether nobody typed --store.
func (o *sourceOptions) storesFromEnv() bool {
	return len(o.stores) == 1 && o.stores[0] == os.Getenv("CASYNC_STORE")
}

// onReload calls reload at each SIGHUP, which does not end the command any more, until
// stop, which waits for it.
func onReload(reload func()) (stop func()) {
	signal.Reset(syscall.SIGHUP)
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer close(done)
		for range signals {
			reload()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// reloads has the store file, if there is one, read again at each SIGHUP, until stop.
func (o *opener) reloads() (stop func()) {
	if o.opt.storeFile == "" {
		return func() {}
	}
	return onReload(o.reload)
}

// reloads has the state written at each SIGHUP, too, if one is.
func (o *lazyOpener) reloads() (stop func()) {
	if o.lazy.corSave == "" {
		return o.opener.reloads()
	}
	return onReload(func() {
		if err := o.writeCorState(); err != nil {
			o.log.Warn("state is not written", "err", err)
		}
		if o.opt.storeFile != "" {
			o.reload()
		}
	})
}

// reload reads the store file again and has all images read from the stores that it
// names now. If one cannot be opened, all stays as it was.
func (o *opener) reload() { o.reloaded(o.exchange()) }

// reloaded says what became of a reading of the store file.
func (o *opener) reloaded(err error) {
	if err != nil {
		o.log.Error("store file is not taken, the stores stay as they were", "err", err)
		return
	}
	o.log.Info("stores are exchanged", "file", o.opt.storeFile)
}

func (o *opener) exchange() error {
	f, err := config.LoadStoreFile(o.opt.storeFile)
	if err != nil {
		return err
	}
	o.stacks.Lock()
	defer o.stacks.Unlock()
	stores, cache := o.opt.stores, o.opt.cache
	o.opt.stores, o.opt.cache = f.Stores, f.Cache
	next, passed, err := o.anew()
	if err != nil {
		o.opt.stores, o.opt.cache = stores, cache
		return err
	}
	for i, p := range o.passed {
		p.exchange(passed[i])
	}
	for i, img := range o.swaps {
		img.swap.Put(next[i].store)
		if img.keptSwap == nil {
			continue
		}
		if next[i].kept == nil {
			next[i].kept = keepers(nil)
		}
		img.keptSwap.Put(next[i].kept)
	}
	return nil
}

// anew opens the stores again, for all that read from them.
func (o *opener) anew() (images []*stack, passed []behind, err error) {
	for _, img := range o.swaps {
		st, err := o.stack(img)
		if err != nil {
			return nil, nil, err
		}
		images = append(images, st)
	}
	for _, p := range o.passed {
		b, err := p.made()
		if err != nil {
			return nil, nil, err
		}
		passed = append(passed, b)
	}
	return images, passed, nil
}

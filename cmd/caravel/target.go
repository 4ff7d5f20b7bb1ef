package main

import (
	"context"
	"log/slog"

	"caravel/store"
	"caravel/store/open"
)

// writer opens a store to put chunks into. What a network does to them is tried again. A
// chunk that is there already gets a new time, which keeps prune from it.
func writer(location string, where open.Options, log *slog.Logger) (store.Writer, error) {
	where.Renew = renewNamed
	w, err := open.Writer(location, where)
	if err == nil && open.Remote(location) {
		w = store.RetryWriter(w, where.Timeout, log)
	}
	return w, err
}

// target opens the store that chunks of others are copied into: packed as form says, and
// encrypted as those are that they come from, unless crypt says otherwise. It returns the
// key, too, with which they then are; nil: none.
func (o *opener) target(ctx context.Context, location string, form store.Form, crypt encryptionOptions) (store.Writer, *store.Key, error) {
	err := o.unlock(ctx)
	if err != nil {
		return nil, nil, err
	}
	where := o.where
	where.Wrap = nil
	if where.Form, err = crypt.form(ctx, form, o.stderr, o.log); err != nil {
		return nil, nil, err
	}
	if !crypt.said() {
		where.Form.Key = o.where.Form.Key
	}
	key, err := open.Key(location, where)
	if err != nil {
		return nil, nil, err
	}
	w, err := writer(location, where, o.log)
	return w, key, err
}

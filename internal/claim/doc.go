// Package claim says which process looks after a device, in a file for each
// device that the process holds locked as long as it lives: the lock is the sign
// of life, as process numbers come again.
//
//	dir, err := claim.Lock(ctx, claim.Dir)
//	defer dir.Unlock()
//	c, err := dir.Take("nbd0", claim.Record{Link: "/dev/golden", Image: location})
//	…
//	err = c.Release()
//
// A record whose process is dead stays, and tells the next one what the device
// was. All but this text is on Linux only.
package claim

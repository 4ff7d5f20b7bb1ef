// Package diskuse says who uses a disk: where it is mounted, which devices are
// made of it, which processes have it open; and makes sure that nobody does before
// it is taken away.
//
//	err := diskuse.Patiently(func() error {
//		fd, err := diskuse.Claim("/dev/loop0", own)
//		…
//	})
//
// It is on Linux only.
package diskuse

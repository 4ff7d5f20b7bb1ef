// Package diskuse says who uses a disk: where it is mounted, which devices are
// made of it, which processes have it open. It is on Linux only.
package diskuse

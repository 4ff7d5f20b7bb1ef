// Package testtree makes trees with everything that a file system holds, and
// compares two trees. It is for tests.
//
// What the file system under a tree has not got is left out of it, without
// a word: the same test runs as root on btrfs and as a user on a tmpfs.
//
//	rng := rand.New(rand.NewPCG(1, seed))
//	testtree.Generate(t, src, rng, testtree.Options{XAttrs: true})
//	…
//	diff, err := testtree.Diff(src, restored, feature.Best)
package testtree

import "cmp"

// Options says what a tree may hold. The zero value: what an ordinary user
// may make on any Linux file system (files, directories, links, FIFOs, sockets,
// odd names and times).
type Options struct {
	Root    bool // also what takes root: owners, devices, trusted xattrs, capabilities, labels, set-id
	ACLs    bool
	XAttrs  bool
	Chattr  bool  // chattr flags; immutable ones are cleared by t.Cleanup
	Exclude bool  // .caexclude files and what they match
	Nodes   int   // about how many; 0: 40
	Bytes   int64 // about how much payload; 0: 1 MiB

	Wide int // entries of one directory more, small ones; 0: no such directory
	Deep int // nodes on the longest path, the root and the leaf counted; 0: whatever comes

	// What some archives cannot say, or casync cannot read.
	MaxName   int  // longest name in bytes; 0: 255
	ShortIDs  bool // no owner above 65535
	Since1970 bool // no times before
	Named     bool // with Root: no owner without a name, and none that is root
	WithCOW   bool // no chattr +C, which on btrfs is at odds with compression
}

func (o Options) withDefaults() Options {
	o.Nodes = cmp.Or(o.Nodes, 40)
	o.Bytes = cmp.Or(o.Bytes, 1<<20)
	o.MaxName = cmp.Or(o.MaxName, 255)
	return o
}

// Package treeoverlay makes a mounted tree writable: what is written goes to a folder,
// and the tree below stays as it is.
//
//	d, err := treeoverlay.Open(ctx, "/var/lib/golden", treeoverlay.Image{ID: digest, Name: location})
//	defer d.Close()
//	m, err := d.Mount(ctx, "/mnt", func(dir, known string) (treeoverlay.Lower, error) {
//		return fusefs.MountTree(dir, t, open, fusefs.Options{Known: known, SetID: true, Devices: true})
//	}, treeoverlay.Options{SetID: true, Devices: true})
//	defer m.Unmount()
//	<-m.Done() // until someone else unmounts it
//
// Root has the kernel's overlayfs; anybody else has fuse-overlayfs, a program that is
// run as a child and ends with this process. Overlayfs in a user namespace, where anybody
// may mount it, would be seen by nobody else. Neither can read what the other has
// written, so a folder stays with the one that began it.
//
// # The folder
//
//	caravel-overlay   what the folder is, of which image, who has it: locked while in use
//	upper             files as they are now, and what has gone from the tree
//	work              of the overlay's own
//	lower             where the tree is mounted for a moment
//
// An overlay over a tree that is not the one it was begun over shows neither; the
// kernel leaves open what it does. So the folder is of one image, and of one directory
// of it, and another is refused. Whose things are (a shift of owners) may change: it
// counts for what has not been written.
//
// The root of a writable tree is the folder's, so its owner, mode, times and attributes
// are copied when the folder is made.
//
// # Who holds what
//
// The tree is mounted on lower, the overlay is put over it, and then the tree is taken
// out of sight: the overlay holds it, and the two end together, whoever unmounts. A
// process that is killed leaves the overlay behind, of which only what was written can
// be read; the next one with this folder has its lock, so it knows that what lies over
// upper is dead, and takes it away, wherever it is. Who mounts something else on its
// directory has [Clear] do that.
//
// What overlayfs copies up keeps all but what chattr knows beyond S, A, a and i, the
// attributes of FAT, and the number of a quota's project. As FUSE has no i and a that
// the kernel minds, these hold from then on: what was never written to can be removed.
//
// Directories are renamed (redirect_dir), which by default overlayfs refuses; numbers
// of files stay what they are when a file is written to (xino). Hard links need no
// index, as a tree of an archive has none; there are no files of which only the
// attributes are in upper (metacopy), as one could be made to show what is not its own.
//
// What overlayfs takes for its own in a tree is not shown: a device of number 0:0 is
// the sign of what has gone, and attributes in trusted.overlay. are the overlay's.
//
// The package does its work on Linux and is empty elsewhere.
package treeoverlay

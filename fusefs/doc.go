// Package fusefs shows images through FUSE, read-only: a stream of bytes as one
// file, an archive as the tree that it holds.
//
//	m, err := fusefs.MountFile("/mnt", fusefs.File{
//		Name: "disk", Size: view.Size(), Reader: view,
//	}, fusefs.Options{})
//	defer m.Unmount()
//	m.Wait() // until someone else unmounts it
//
// A tree is a [Tree] for names and attributes, and a function that gives each
// opened file a Reader of its part of the archive: see [MountTree].
//
// What an image holds never changes, so the kernel is told to keep whatever it
// has seen for ever: entries, attributes, names that are not there, directory
// contents, links, pages. Only the first read of a page comes here.
//
// # Faults
//
// What cannot be read, be it bytes, a name or a directory, is an I/O error for
// whoever asks for it, and for nobody else; the log says it once, and the next
// who asks has it tried again. Of a file, the kernel asks for runs of up to
// 1 MiB and throws a failed run away; it then asks page by page, so the bytes
// around a bad chunk stay readable. An answer shorter than was asked for would
// cut the file's size for good: there is none. A directory is listed whole, also
// if payloads in it cannot be read; or not at all if the record of an entry
// cannot, which has its name, but what else is in it is found by its name.
//
// A signal to the process that waits does not fail what it asked for: a file
// that answers EINTR breaks programs, and a page fault so answered kills them. A
// request is cancelled when the process that waits for it is being killed, and
// when the mount goes away.
//
// A program must not map a file of its own mount into memory, nor start a
// process in a directory of it or from a program on it: the runtime does not
// know that the thread which does this waits, and the answer may need just that
// thread. Reading and looking around is safe.
//
// # What a tree shows
//
// Everything that the archive keeps but btrfs's subvolumes, so that packing the
// mount again gives the same archive, by casync too: owners, modes and times (of which there is one);
// devices, which nobody can open here, as set-id bits have no effect;
// attributes in user. and trusted., labels, capabilities and access control
// lists, which count; what chattr, FAT and quotas know, by the ioctls that ask
// for it. Names of users are not shown: they are the numbers' names here. Each
// entry has one link, also a directory, which tells find not to count on the
// number. A file's blocks are its bytes, those of the whole the archive's; the
// number of files is that of the entries seen so far.
//
// The number of a node is that of the tree's entry: nothing is kept here of what
// the kernel knows, and nothing needs forgetting.
//
// # Figures
//
// Two shared cores, Linux 6.18, ±30 %. A file of 512 MiB in memory, fio:
//
//	1 MiB in a row, cold          1.2–2.6 GB/s
//	the same, warm                3.5–5.0 GB/s
//	4 KiB at random, from here    74–92 k/s, and 128–171 k/s for 16 readers
//	the same, warm                120–820 k/s
//
// A cold read costs some 10 µs here, a warm one a tenth of that, as from any
// file. Of the read-ahead, the kernel does 128 KiB at a time whatever it is
// told: over a wide area it is the Reader's to do. Left out: splicing, which
// with bytes in memory costs a pipe a read and gains nothing.
//
// A tree of 16,720 entries in memory, by a new mount and again:
//
//	find                          0.09 s, 0.03 s
//	find -ls                      0.11 s, 0.07 s
//	ls -lR                        0.38 s, 0.20 s; without attributes in the archive 0.11 s, 0.06 s
//	stat of every path            9.4 µs an entry, 0.7 µs
//	getxattr                      7.7 µs: the kernel keeps none
//	open, read 4 KB, close        10.5 µs with the bytes in the kernel
//
// The Go distribution, mounted by caravel mount, takes ls -lR 0.5 s from a .catar,
// and 0.8 s from a .caidx with its store on the same disk (1,337 chunks have names
// in them); 0.25 s after that.
//
// A listing brings the attributes along (one request for some 190 entries), so
// that a walk asks for each directory and for no entry. What ls -lR costs beyond
// find is getxattr, which is why the kernel is told, where an archive keeps no
// attributes, that there are none.
//
// The package does its work on Linux and is empty elsewhere.
package fusefs

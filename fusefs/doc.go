// Package fusefs shows images through FUSE, read-only (package treeoverlay makes a tree
// writable): a stream of bytes as one
// file, an archive as the tree that it holds.
//
//	m, err := fusefs.MountFile("/mnt", fusefs.File{
//		Name: "disk", Size: view.Size(), Reader: view,
//	}, fusefs.Options{})
//	defer m.Unmount()
//	<-m.Done() // until someone else unmounts it
//
// A tree is a [Tree] for names and attributes, and a function that gives each
// file that is read a Reader of its part of the archive: see [MountTree].
//
// What an image holds never changes, so the kernel is told to keep whatever it
// has seen for ever: entries, attributes, names that are not there, directory
// contents, links, pages. Only the first read of a page comes here. What is in a tree
// it opens and closes without a word, so that who reads all of it a second time asks
// for nothing at all (TestTreeKept). A file's Reader is therefore that of all who have
// it open; it has to tell several streams apart. Where the kernel may read files by
// itself it does tell: to open and close 15,000 small files then takes a second more.
//
// # What the kernel reads by itself
//
// A Reader that is [Backed] may know a file on disk that holds just its bytes.
// Where root mounts, on Linux 6.9, the kernel is given that file when the image's
// is opened, and reads it without us (FUSE passthrough). It wants all who have a
// file open at one time to read it in the same way: one that was opened before
// its backing was complete is read through us until the last has closed it, by
// those who come later too. Without the right, on an older kernel, and if the
// backing does not fit (another size, no O_DIRECT, itself on an overlay), all goes
// on as before, and the log says so at level debug. Who has such a file open when
// the mount ends has it on.
//
// Such a mount takes one of the two levels that the kernel lets file systems be
// stacked, so one overlay can lie on it and none on that; two can if
// [Options.Passthrough] is negative.
//
// # What is believed
//
// A tree whose names come from a sidecar is a hint. The bytes of a file are passed
// on when [Tree] has confirmed by the archive's own record what it says of the
// file: its place, size, mode and owner. That is asked for at the same time as the
// first bytes, so it costs no round trip, and once for each Reader; a
// contradiction is an I/O error. What the kernel reads by itself is confirmed when
// it is opened. The targets of links are the tree's; attributes other than those
// that stat shows come from the archive. Set-id bits, capabilities and devices
// have no effect whatever is said of them, as the mount is nosuid and nodev; unless
// [Options].SetID and Devices say otherwise, and then who has such a thing is
// confirmed by all that leads to it before the kernel hears of it.
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
// Everything that the archive keeps but what is listed below, so that packing the
// mount again gives the same archive, by casync too: owners, modes and times (of which there is one);
// devices, which nobody can open here, as set-id bits have no effect;
// attributes in user. and trusted., labels, capabilities and access control
// lists, which count; what chattr, FAT and quotas know, by the ioctls that ask
// for it. Each
// entry has one link, a directory two and one of each directory in it, on which find
// counts; until these are known it has one, which says so. A file's blocks are its
// bytes but for the holes that are known ([Options].Holes), which lseek finds as well:
// who copies a sparse file reads none. Those of the whole are the archive's; the
// number of files is that of the entries seen so far.
//
// What is not shown, or has no effect, by feature ([feature.Flags]), and why:
//
//	subvolume, subvolume-ro   whether a directory is one is asked of btrfs alone,
//	                          which says so by the inode's number and an ioctl
//	user-names                a file system has numbers; the names are those that
//	                          these have here, unless [Look].UID and GID give an
//	                          entry to who has its name
//	flag-immutable, -append   are shown, but the kernel does not know: of FUSE it
//	                          takes no such flags, and nothing can be written anyway
//	set-id bits, fcaps,       are shown, but have an effect only where [Options]
//	device-nodes              say so: the mount is nosuid and nodev
//	xattrs                    of other classes than user. and trusted. in an archive
//	                          that casync has not made: they could claim rights
//	acl                       with [Look].Perm: permissions are then as it says
//
// The number of a node is that of the tree's entry: nothing is kept here of what
// the kernel knows, and nothing needs forgetting.
//
// # When the process dies
//
// A mount whose process was killed fails all reads, for good: who had the file
// open, and a file system on a loop device of it, has lost it. A held mount of one
// file does not, as long as some process keeps a part in it, best one that does
// nothing else; the processes that serve take it up one after the other:
//
//	h, err := fusefs.Hold(dir, fusefs.Options{})
//	lent, err := h.Lend()
//	…
//	t, err := fusefs.ServeFile(lent, file, fusefs.Options{}) // wherever lent was sent
//	<-t.Done()
//
// When that is killed, or [Turn.Leave] ends it for a newer program, readers wait.
// The next one has the kernel send again what was taken and not answered
// (FUSE_NOTIFY_RESEND, Linux 6.9), and they go on: a mounted ext4 notices nothing,
// 16 readers past the page cache got each byte right over 600 kills, and the
// longest read took as long as the new process to begin, some 0.1 s.
//
// What is lost with a process must not matter to the next: so there is one Reader
// for all who have the file open, the file is node 2 for ever, and there is no
// passthrough. Nor may a process that is being killed fail a request that it still
// takes, see newExchange: for that, requests are read by a loop of our own here,
// and the library does the rest. That costs 3 to 6 µs of the processor more than
// the library's own loop does for a read (of 20 to 30), as each makes garbage.
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
// told: over a wide area it is the Reader's to do.
//
// A file of 256 MiB that the kernel reads by itself, beside its backing, whose
// pages are in memory (BenchmarkPassthrough; in brackets fio, whose own cost is
// more than half of that, with the machine busy):
//
//	1 MiB in a row                8.5–8.9 GB/s, the backing 8.1–9.0 (6.6, 6.1)
//	4 KiB at random               1.4 M/s, 1.3 M/s (0.62, 0.71)
//
// Left out: splicing. With bytes in memory there is nothing to splice: of a cold
// read in a row our own copy takes 4 to 8 % of the time, the kernel's pages the
// rest. With bytes in a file that is not complete, splicing 128 KiB in place of
// reading and writing them gained 11 % and 25 % in two runs of 15 cold reads of
// 256 MiB (2.0 for 1.7 GB/s), and 40 % with O_DIRECT; it takes a pipe for each
// request under way, and ends where the kernel reads by itself, which is worth
// three times that.
//
// A tree of 16,720 entries in memory, by a new mount and again:
//
//	find                          0.07 s, 0.01 s
//	find -ls                      0.10 s, 0.05 s
//	ls -lR                        0.12 s, 0.05 s; with attributes unknown 0.45 s, 0.20 s
//	stat of every path            9.4 µs an entry, 0.7 µs
//	getxattr                      7.7 µs: the kernel keeps none
//	open, read 4 KB, close        10.5 µs with the bytes in the kernel, where we are told of it
//
// The Go distribution's tree (16,703 entries, 235 MB) by the command, its store on the
// same disk: cold and warm, in seconds, with ext4 and casync's mount beside
// (integration/bench, mounted-tree; medians of 3, of casync one run each):
//
//	                      caravel        ext4           casync
//	find                  1.18   0.08    0.26   0.08    12.6   11.1
//	ls -lR                1.24   0.16    0.42   0.19    31.1   27.5
//	du                    1.13   0.10    0.35   0.10    16.4   15.8
//	tar                   4.59   0.49    1.47   0.41    28.9   21.8
//	grep -r               4.74   0.44    1.35   0.46    29.9   21.5
//	md5sum, two at once   4.97   1.03    1.75   0.93    98.0   68.1
//	go build              22.2   19.0    20.1   19.3    38.0   34.6
//
// A listing brings the attributes along (one request for some 190 entries), so
// that a walk asks for each directory and for no entry. What ls -lR costs beyond
// find is getxattr, and so the kernel is told that there are no attributes where
// that is known: an archive keeps none, or all entries were seen and none has any.
// Opening and closing directories would be half of the requests.
//
// Who packs a mount asks for five things of each file (TestTreePacked): chattr's flags,
// FAT's, the quota's project, a list of attributes, and the bytes. The kernel keeps no
// answer to the first four, nor that there is no such ioctl; and that one file has none
// says nothing of the next one of a FUSE file system, of which many may lie behind it
// (so catar/inode asks again). Where the kernel
// tells when it opens a file, that comes on top three times: it does so for chattr's
// flags and for the project, too.
//
// A mount takes some 1 ms until its root can be listed, most of it the kernel's.
//
// The package does its work on Linux and is empty elsewhere.
package fusefs

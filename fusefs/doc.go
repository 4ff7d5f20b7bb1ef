// Package fusefs shows images through FUSE: for now a stream of bytes as one
// read-only file, with a place beside it for a tree.
//
//	m, err := fusefs.MountFile("/mnt", fusefs.File{
//		Name: "disk", Size: view.Size(), Reader: view,
//	}, fusefs.Options{})
//	…
//	err = m.Wait() // until someone unmounts it
//
// What an image holds never changes, so the kernel is told to keep whatever it
// has seen for ever: entries, attributes, names that are not there, directory
// contents, pages. Only the first read of a page comes here.
//
// A range that cannot be read is an I/O error for whoever reads it, and for
// nobody else. The kernel asks in runs of up to 1 MiB and throws a failed run
// away; it then asks page by page, so the bytes around a bad chunk stay
// readable, and the next read of the bad ones tries again. An answer shorter
// than was asked for would cut the file's size for good: there is none.
//
// A signal to the reading process does not fail its read: a file that answers
// EINTR breaks programs, and a page fault so answered kills them. A read is
// cancelled when the process that waits for it is being killed, and when the
// mount goes away.
//
// Figures (two cores, kernel 6.18, 512 MiB in memory, fio as in
// BENCHMARKS below) are in bench_test.go.
//
// The package does its work on Linux and is empty elsewhere.
package fusefs

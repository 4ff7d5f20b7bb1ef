package listing

import (
	"caravel/catar"
	"caravel/feature"
)

// A kind is a type of node in the words of ls and mtree(5).
type kind struct {
	mode   uint32
	letter byte
	word   string
}

var kinds = [...]kind{
	{catar.ModeRegular, '-', "file"},
	{catar.ModeDir, 'd', "dir"},
	{catar.ModeLink, 'l', "link"},
	{catar.ModeChar, 'c', "char"},
	{catar.ModeBlock, 'b', "block"},
	{catar.ModeFIFO, 'p', "fifo"},
	{catar.ModeSocket, 's', "socket"},
}

func kindOf(mode uint32) kind {
	for _, k := range kinds {
		if k.mode == mode&catar.ModeType {
			return k
		}
	}
	return kind{letter: '?', word: "unknown"}
}

// appendMode writes a mode as ls does, drwsr-xr-t, but for the sticky bit of what
// is no directory, which casync does not show.
func appendMode(b []byte, mode uint32) []byte {
	const letters = "rwxrwxrwx"
	start := len(b)
	b = append(b, kindOf(mode).letter)
	for i := range len(letters) {
		if mode&(0o400>>i) != 0 {
			b = append(b, letters[i])
		} else {
			b = append(b, '-')
		}
	}
	for _, special := range [...]struct {
		bit     uint32
		place   int
		x, bare byte // with the right to execute, and without
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		if mode&special.bit == 0 || special.bit == 0o1000 && mode&catar.ModeType != catar.ModeDir {
			continue
		}
		at := &b[start+special.place]
		if *at == 'x' {
			*at = special.x
		} else {
			*at = special.bare
		}
	}
	return b
}

// A letter stands for a flag of a file.
type letter struct {
	flag feature.Flags
	code byte
}

// chattrLetters are lsattr's, as far as it has one, in casync's order.
var chattrLetters = [...]letter{
	{feature.Sync, 'S'}, {feature.DirSync, 'D'}, {feature.Immutable, 'i'}, {feature.Append, 'a'}, {feature.NoDump, 'd'},
	{feature.NoAtime, 'A'}, {feature.Compr, 'c'}, {feature.NoComp, 'N'}, {feature.NoCOW, 'C'}, {feature.ProjInherit, 'P'},
}

var fatLetters = [...]letter{{feature.Hidden, 'h'}, {feature.System, 's'}, {feature.ArchiveFlag, 'a'}}

func appendLetters(b []byte, flags feature.Flags, letters []letter) []byte {
	for _, l := range letters {
		if flags&l.flag != 0 {
			b = append(b, l.code)
		} else {
			b = append(b, '-')
		}
	}
	return b
}

// mtreeFlags are the flags that mtree(5) has a word for.
var mtreeFlags = [...]struct {
	flag feature.Flags
	word string
}{
	{feature.Hidden, "hidden"}, {feature.System, "system"}, {feature.ArchiveFlag, "archive"},
	{feature.Append, "sappend"}, {feature.NoDump, "nodump"}, {feature.Immutable, "simmutable"},
}

// appendMTreeFlags writes the flags of a file or directory, as far as the
// archive keeps them.
func appendMTreeFlags(b []byte, n *catar.Node, f feature.Flags) []byte {
	if kind := n.Mode & catar.ModeType; kind != catar.ModeRegular && kind != catar.ModeDir {
		return b
	}
	lead := " flags="
	for _, m := range mtreeFlags {
		if f&m.flag == 0 {
			continue
		}
		b = append(b, lead...)
		lead = ","
		if n.Flags&m.flag == 0 {
			b = append(b, "no"...)
		}
		b = append(b, m.word...)
	}
	return b
}

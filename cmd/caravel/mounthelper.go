package main

import (
	"path/filepath"
	"strings"
)

// helperPrefix begins the names by which mount(8) calls those that know a type:
// /sbin/mount.fuse.caravel for "mount -t fuse.caravel" and for fstab.
const helperPrefix = "mount."

// asMountHelper makes the words of a command line from a program's, which may be those
// of a helper: SOURCE DIR [-sfnv] [-N NAMESPACE] [-o WORDS] [-t TYPE]. A helper returns
// when all can be used; fake says that nothing is to be done. Nobody keeps the table of
// -n any more, and of the namespace whoever called has taken care.
func asMountHelper(argv []string) (words []string, fake bool) {
	if !strings.HasPrefix(filepath.Base(argv[0]), helperPrefix) {
		return argv[1:], false
	}
	words = []string{"mount", "--daemon"}
	var args []string
	for rest := argv[1:]; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		if len(word) < 2 || word[0] != '-' {
			args = append(args, word)
			continue
		}
		for i, c := range word[1:] {
			if strings.ContainsRune("otN", c) {
				value := word[i+2:]
				if value == "" && len(rest) > 0 {
					value, rest = rest[0], rest[1:]
				}
				if c == 'o' {
					words = append(words, "--options="+value)
				}
				break
			}
			switch c {
			case 'f':
				fake = true
			case 's':
				words = append(words, "--options="+sloppyWord)
			case 'v':
				words = append(words, "--verbose")
			}
		}
	}
	return append(append(words, "--"), args...), fake
}

// sloppyWord has words of -o that nobody knows ignored, as mount(8) does with -s.
const sloppyWord = "sloppy"

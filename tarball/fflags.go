package tarball

import (
	"strings"

	"caravel/feature"
)

// flagWords are bsdtar's words for chattr's flags on Linux. Some have several, and
// the first one is written.
var flagWords = []struct {
	flag  feature.Flags
	words []string
}{
	{feature.Append, []string{"sappnd", "sappend", "uappnd", "uappend"}},
	{feature.NoAtime, []string{"noatime"}},
	{feature.Compr, []string{"compress", "ucompress", "ucompressed"}},
	{feature.NoCOW, []string{"nocow"}},
	{feature.NoDump, []string{"nodump"}},
	{feature.DirSync, []string{"dirsync"}},
	{feature.Immutable, []string{"schg", "simmutable", "schange", "uchg", "uchange", "uimmutable"}},
	{feature.Sync, []string{"sync"}},
	{feature.ProjInherit, []string{"projinherit"}},
}

// fileFlags keeps what a record says of chattr's flags.
func (m *Member) fileFlags(text string) {
	if !m.IsRegular() && !m.IsDir() {
		return // others have none, whatever is said
	}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		flag := flagNamed(word)
		if flag == 0 {
			m.lose("file flag %q", word)
		}
		m.Flags |= flag
	}
}

func flagNamed(word string) feature.Flags {
	for _, f := range flagWords {
		for _, w := range f.words {
			if w == word {
				return f.flag
			}
		}
	}
	return 0
}

// flagText is the record of flags, and what it has no words for.
func flagText(flags feature.Flags) (text string, left feature.Flags) {
	var words []string
	for _, f := range flagWords {
		if flags&f.flag != 0 {
			words = append(words, f.words[0])
			flags &^= f.flag
		}
	}
	return strings.Join(words, ","), flags
}

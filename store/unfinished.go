package store

import (
	"fmt"
	"math/rand/v2"
	"path"
	"regexp"
	"strings"
)

// UnfinishedName is a name beside an object's, under which a backend that cannot
// make a file without one collects it until it is complete: nobody else takes it,
// and [Unfinished] knows it.
func UnfinishedName(name string) string { return fmt.Sprintf("%s.%016x.tmp", name, rand.Uint64()) }

// numbered is a chunk under the name that desync gives it on an SFTP server while it
// is not complete: a number follows the chunk's own.
var numbered = regexp.MustCompile(`^[0-9a-f]{64}(\.cacnk)?[0-9]+$`)

// Unfinished reports whether a name is that of a file that somebody, casync and
// desync among them, has not completed yet, or never will.
func Unfinished(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, ".tmp") || strings.HasPrefix(base, ".tmp-cacnk") || numbered.MatchString(base)
}

package tarball

import "fmt"

// Lost is what cannot be kept of nodes on their way between an archive and a tar
// stream.
type Lost struct {
	Count int
	First []string // as many as somebody may want to read, a line each
}

// maxLost is how many a list holds: a stream may have millions.
const maxLost = 100

// Add takes note of something that is lost of the node at a path.
func (l *Lost) Add(path, format string, a ...any) {
	l.Count++
	if len(l.First) < maxLost {
		l.First = append(l.First, fmt.Sprintf("%q: ", path)+fmt.Sprintf(format, a...))
	}
}

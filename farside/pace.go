package farside

import (
	"io"
	"time"
)

// Paced is w with no more than so many bytes a second.
func Paced(w io.Writer, bytesPerSecond int64) io.Writer {
	return &paced{w: w, rate: bytesPerSecond}
}

type paced struct {
	w    io.Writer
	rate int64
	free time.Time // when what was written would be through
}

// Write writes a tenth of a second's bytes at a time, so that they flow.
func (p *paced) Write(b []byte) (n int, err error) {
	for err == nil && n < len(b) {
		time.Sleep(time.Until(p.free))
		part := b[n:min(len(b), n+int(max(p.rate/10, 1)))]
		began := time.Now()
		var k int
		k, err = p.w.Write(part)
		n += k
		p.free = began.Add(time.Duration(k) * time.Second / time.Duration(p.rate))
	}
	return n, err
}

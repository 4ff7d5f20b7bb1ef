package restore

import (
	"context"
	"hash"
	"io"
	"math/bits"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// A job is a node that a worker makes.
type job struct {
	in    *dir
	name  string
	at    int64 // where in the archive
	body  int64 // where its payload is
	entry catar.Entry

	whole  *[]byte      // payload of a short file; nil: none
	blocks chan *[]byte // of a long one, closed behind the last; nil: not a long one
	cut    bool         // it was not the last
	first  *[]byte      // taken off blocks, and not used; nil: none

	sum hash.Hash // for links; nil: it is not to be linked
}

func (r *run) newJob(in *dir, n *catar.Node, name string) *job {
	in.users.Add(1)
	j := &job{in: in, name: name, at: n.Start, body: n.Body, entry: r.keep(&n.Entry)}
	if j.entry.IsRegular() {
		j.sum = r.identity(&j.entry)
	}
	return j
}

// keep is what is restored of e. Whose it was stays known even if owners are
// not restored: nobody's program gets set-user-id for somebody else, nor if it
// never was known.
func (r *run) keep(e *catar.Entry) catar.Entry {
	c := clone(e)
	c.Reduce(r.flags)
	c.UID, c.GID, c.Size, c.MTime = e.UID, e.GID, e.Size, e.MTime
	if !c.IsDir() {
		if !r.knows(c.User) {
			c.Mode &^= unix.S_ISUID
		}
		if !r.knows(c.Group) {
			c.Mode &^= unix.S_ISGID
		}
	}
	if step := int64(r.flags.Granularity()); step > int64(r.d.Flags().Granularity()) {
		// Not as archives round, which does not fit times before 1970.
		c.MTime -= (c.MTime%step + step) % step
	}
	return c
}

// knows reports whether the archive says who an owner is, of whose name the run
// keeps name. Without numbers and without the name he looks like root.
func (r *run) knows(name string) bool { return r.d.Flags()&feature.UIDs != 0 || name != "" }

// clone copies e with all that a decoder may use again.
func clone(e *catar.Entry) catar.Entry {
	c := *e
	c.FCaps = slices.Clone(e.FCaps)
	c.XAttrs = slices.Clone(e.XAttrs)
	for i := range c.XAttrs {
		c.XAttrs[i].Value = slices.Clone(c.XAttrs[i].Value)
	}
	if e.ACL != nil {
		a := *e.ACL
		a.Users, a.Groups = slices.Clone(a.Users), slices.Clone(a.Groups)
		if a.Default != nil {
			d := *a.Default
			d.Users, d.Groups = slices.Clone(d.Users), slices.Clone(d.Groups)
			a.Default = &d
		}
		c.ACL = &a
	}
	return c
}

// hand gives j, with its payload, to a worker. The error says where.
func (r *run) hand(j *job) error {
	if j.entry.Size > wholeBytes {
		j.blocks = make(chan *[]byte, 4)
		if err := r.send(j); err != nil {
			return err
		}
		err := r.stream(j)
		j.cut = err != nil
		close(j.blocks)
		return err
	}
	if j.entry.Size > 0 {
		if err := r.memory.Acquire(r.ctx, bufferSize(j.entry.Size)); err != nil {
			r.release(j.in)
			return context.Cause(r.ctx)
		}
		j.whole = r.pool.get(j.entry.Size)
		if err := r.read(j, *j.whole); err != nil {
			r.done(j)
			return err
		}
	}
	return r.send(j)
}

func (r *run) send(j *job) error {
	select {
	case r.jobs <- j:
		return nil
	case <-r.ctx.Done():
		r.done(j)
		return context.Cause(r.ctx)
	}
}

// stream feeds the worker of a long file.
func (r *run) stream(j *job) error {
	for left := j.entry.Size; left > 0; {
		b := r.pool.get(min(left, blockBytes))
		if err := r.read(j, *b); err != nil {
			return err
		}
		left -= int64(len(*b))
		select {
		case j.blocks <- b:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
	return nil
}

// read fills b with payload.
func (r *run) read(j *job, b []byte) error {
	_, err := io.ReadFull(r.d, b)
	r.progress()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return j.in.failed(j.name, err)
	}
	return nil
}

// work makes nodes until there are no more.
func (r *run) work() {
	for j := range r.jobs {
		if !r.failed.Load() {
			if err := r.make(j); err != nil && err != errCut {
				r.fail(j.at, j.in.failed(j.name, err))
			}
		}
		r.done(j)
	}
}

// done gives back what j used.
func (r *run) done(j *job) {
	if j.whole != nil {
		r.pool.put(j.whole)
		r.memory.Release(bufferSize(j.entry.Size))
	}
	r.release(j.in)
}

// A pool lends buffers whose sizes are powers of two.
type pool [maxClass + 1]sync.Pool

const (
	minClass = 12 // 4 KiB
	maxClass = 20 // wholeBytes
)

func class(n int64) int { return max(minClass, bits.Len64(uint64(n-1))) }

// bufferSize is how much memory a buffer for n bytes takes.
func bufferSize(n int64) int64 { return 1 << class(n) }

// get lends a buffer of n bytes, at most wholeBytes.
func (p *pool) get(n int64) *[]byte {
	b, ok := p[class(n)].Get().(*[]byte)
	if !ok {
		fresh := make([]byte, bufferSize(n))
		b = &fresh
	}
	*b = (*b)[:n]
	return b
}

func (p *pool) put(b *[]byte) {
	p[class(int64(cap(*b)))].Put(b)
}

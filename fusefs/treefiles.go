//go:build linux

package fusefs

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"caravel/catar/tree"
)

// readFiles is how many files are kept that nobody reads just now. The next read of
// one goes on with what the Reader has learnt of those before.
const readFiles = 128

// treeFiles are the files of a tree that were read last, whoever had them open. The
// zero value is ready.
type treeFiles struct {
	mu     sync.Mutex
	recent *simplelru.LRU[tree.ID, *treeFile] // guarded by mu
	over   bool                               // guarded by mu
}

// take is a file for one read. If that is of all of it, it makes no other give way.
func (t *treeFiles) take(fs *treeFS, a tree.Attr, whole bool) *treeFile {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.recent == nil {
		t.recent, _ = simplelru.NewLRU(readFiles, func(_ tree.ID, file *treeFile) { file.drop() })
	}
	file, ok := t.recent.Get(a.ID)
	if !ok {
		file = &treeFile{fs: fs, attr: a}
		if !whole && !t.over {
			file.users++
			t.recent.Add(a.ID, file)
		}
	}
	file.users++
	return file
}

func (t *treeFiles) giveBack(file *treeFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	file.drop()
}

// close closes those that nobody reads, and the others when nobody does.
func (t *treeFiles) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.recent != nil {
		t.recent.Purge()
	}
}

// drop says that one user less has the file; treeFiles.mu is held.
func (t *treeFile) drop() {
	if t.users--; t.users == 0 {
		t.close()
	}
}

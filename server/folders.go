package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// FolderOptions tunes a handler of folders. The zero value is a good choice.
type FolderOptions struct {
	Also    []string     // patterns, as of path.Match, of further file names that are served
	Chunks  http.Handler // serves the chunks that are in no folder, as /abcd/abcd…; nil: there are no others
	Private bool         // no cache for many may keep what is sent
	Log     *slog.Logger // nil: discard
}

// endings are those of files that are served: indexes and what lies beside them,
// archives and images.
var endings = []string{
	".caibx", ".caidx", ".caibx.profile", ".caidx.profile", ".caidx.tree", ".catar",
	".img", ".raw", ".iso", ".qcow2", ".vmdk", ".vhd", ".vhdx", ".vdi",
	".ext4", ".squashfs", ".sqfs", ".erofs", ".xfs", ".btrfs",
}

// secret are the names of files that are never served, whatever is asked for.
var secret = regexp.MustCompile(`(?i)\.(tmp|key|pem|p12|pfx|htpasswd|overlay)$|^\.|^#|~$|^id_[a-z0-9]+$`)

// chunkName is how a chunk's file is named in its folder: plain, packed, encrypted.
var chunkName = regexp.MustCompile(`^[0-9a-f]{64}(\.cacnk)?(\.[a-z0-9-]+-[0-9a-f]{8})?$`)

// cacheMark is the file by which caches are known, see https://bford.info/cachedir/.
const cacheMark = "CACHEDIR.TAG"

// Folders serves directories, one upon the other: what is in several of them is that
// of the first. Only what is of use to readers of images is there: indexes, sidecars,
// profiles, archives, images and chunks. A name that begins with a dot is not, nor what
// a symbolic link leads to outside the directory.
type Folders struct {
	roots   []*os.Root
	opt     FolderOptions
	outcome outcome
}

// NewFolders opens directories, for Close to close.
func NewFolders(dirs []string, opt FolderOptions) (*Folders, error) {
	for _, pattern := range opt.Also {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("server: pattern %q: %w", pattern, err)
		}
	}
	f := &Folders{opt: opt, outcome: newOutcome("not here", opt.Log)}
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.roots = append(f.roots, root)
	}
	return f, nil
}

// Close closes the directories.
func (f *Folders) Close() error {
	var errs []error
	for _, root := range f.roots {
		errs = append(errs, root.Close())
	}
	return errors.Join(errs...)
}

func (f *Folders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		allow(w, "GET, HEAD")
		return
	}
	name, folder := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if r.URL.Path == "/" {
		name, folder = ".", true
	}
	switch {
	case !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") || !folder && name == ".":
		refuse(w, http.StatusBadRequest, "want a path without . and ..")
	case hidden(name):
		refuse(w, http.StatusNotFound, f.outcome.missing)
	case folder:
		f.list(w, r, name)
	default:
		f.file(w, r, name)
	}
}

// hidden reports whether a part of a path begins with a dot.
func hidden(name string) bool {
	return name != "." && (name[0] == '.' || strings.Contains(name, "/."))
}

// file serves a file, of the first directory that has it.
func (f *Folders) file(w http.ResponseWriter, r *http.Request, name string) {
	chunk := isChunk(name)
	for _, root := range f.roots {
		file, st, err := openFile(root, name)
		if err != nil {
			if !gone(err) {
				f.outcome.failed(w, r, err)
				return
			}
			continue
		}
		defer file.Close()
		switch {
		case st.IsDir():
			there := url.URL{Path: "/" + name + "/"}
			http.Redirect(w, r, there.EscapedPath(), http.StatusMovedPermanently)
		case !chunk && !f.serves(root, name) || !st.Mode().IsRegular():
			continue
		default:
			send(w, r, content{file, st.Size(), st.ModTime(), fileTag(st.ModTime(), st.Size()), f.keep(chunk)})
		}
		return
	}
	if chunk && f.opt.Chunks != nil {
		r = r.Clone(r.Context())
		r.URL.Path = "/" + path.Join(path.Base(path.Dir(name)), path.Base(name))
		f.opt.Chunks.ServeHTTP(w, r)
		return
	}
	refuse(w, http.StatusNotFound, f.outcome.missing)
}

// keep is how long a file may be kept: only a chunk's content follows from its name.
func (f *Folders) keep(chunk bool) string {
	switch {
	case chunk && f.opt.Private:
		return forEverPrivate
	case chunk:
		return forEver
	case f.opt.Private:
		return "private, " + askAgain
	}
	return askAgain
}

// openFile opens a file or folder; a FIFO does not stop it.
func openFile(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	st, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, st, nil
}

// gone reports whether there is nothing under a name, as far as strangers are
// concerned: what may not be read, or leads elsewhere, is not there either.
func gone(err error) bool {
	var p *fs.PathError
	if errors.As(err, &p) && errors.Is(p.Err, syscall.EIO) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return false
	}
	return true
}

// isChunk reports whether a path is that of a chunk in a store: abcd/abcd….
func isChunk(name string) bool {
	dir, base := path.Split(name)
	return chunkName.MatchString(base) && path.Base(dir) == base[:4]
}

// serves reports whether a file that is no chunk is for others.
func (f *Folders) serves(root *os.Root, name string) bool {
	base := path.Base(name)
	if secret.MatchString(base) {
		return false
	}
	for _, ending := range endings {
		if strings.HasSuffix(base, ending) && len(base) > len(ending) {
			return !inCache(root, path.Dir(name))
		}
	}
	for _, pattern := range f.opt.Also {
		if ok, _ := path.Match(pattern, base); ok {
			return !inCache(root, path.Dir(name))
		}
	}
	return false
}

// inCache reports whether a folder, or one that it is in, is a cache.
func inCache(root *os.Root, dir string) bool {
	for ; ; dir = path.Dir(dir) {
		if _, err := root.Lstat(path.Join(dir, cacheMark)); err == nil {
			return true
		}
		if dir == "." {
			return false
		}
	}
}

// list shows what is served of a folder.
func (f *Folders) list(w http.ResponseWriter, r *http.Request, name string) {
	found := false
	var names []string
	for _, root := range f.roots {
		dir, st, err := openFile(root, name)
		if err != nil || !st.IsDir() || inCache(root, name) {
			if err == nil {
				dir.Close()
			}
			continue
		}
		found = true
		entries, err := dir.ReadDir(-1)
		dir.Close()
		if err != nil {
			f.outcome.failed(w, r, err)
			return
		}
		for _, e := range entries {
			if shown := f.shown(root, path.Join(name, e.Name())); shown != "" {
				names = append(names, shown)
			}
		}
	}
	if !found {
		refuse(w, http.StatusNotFound, f.outcome.missing)
		return
	}
	slices.Sort(names)
	h := w.Header()
	h.Set("Cache-Control", askAgain)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'")
	page := listing(r.URL.Path, slices.Compact(names))
	h.Set("Content-Length", fmt.Sprint(len(page)))
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, page) // who asked may have gone
	}
}

// shown is how an entry of a folder stands in its listing; "" if it does not.
func (f *Folders) shown(root *os.Root, name string) string {
	base := path.Base(name)
	if base[0] == '.' {
		return ""
	}
	st, err := root.Stat(name)
	switch {
	case err != nil:
	case st.IsDir() && !inCache(root, name):
		return base + "/"
	case st.Mode().IsRegular() && (isChunk(name) || f.serves(root, name)):
		return base
	}
	return ""
}

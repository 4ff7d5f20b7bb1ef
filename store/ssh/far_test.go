package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"caravel/castp"
	"caravel/chunker"
	"caravel/farside"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/ssh"
	"caravel/store/storetest"
)

// TestMain is also what an ssh is for the tests: this program called with a host, the
// name of how the far side behaves, and what that is to do.
func TestMain(m *testing.M) {
	if os.Getenv("FAR_SIDE") == "" {
		os.Exit(m.Run())
	}
	args := os.Args[2:]
	behave := behaviours[args[0]]
	if behave == nil {
		behave = behaviours["caravel"]
	}
	if err := behave(args[1], args[3], args[4], args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// behave has the far sides of this process's stores behave in a way.
func behave(t *testing.T, how string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAR_SIDE", "1")
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each session would end a second late
	t.Setenv("CASYNC_SSH_PATH", self)
	t.Setenv("CASYNC_REMOTE_PATH", how)
}

// behaviours are the ways of far sides, given the verb and the paths of an archive, an
// index and a store.
var behaviours = map[string]func(verb, archive, index, chunks string) error{
	"caravel": honest,
	"counted": func(verb, archive, index, chunks string) error {
		f, err := os.OpenFile(filepath.Join(chunks, "sessions"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(verb + "\n"); err != nil {
			return err
		}
		return errors.Join(f.Close(), honest(verb, archive, index, chunks))
	},
	"dies at once": func(string, string, string, string) error {
		return errors.New("no disk\nin this machine")
	},
	"dies in the middle": func(verb, archive, index, chunks string) error {
		return serve(verb, archive, index, chunks, &dying{os.Stdout, 200_000})
	},
	"stalls": func(verb, archive, index, chunks string) error {
		return serve(verb, archive, index, chunks, &stalling{os.Stdout, 200_000})
	},
	"says nothing":  func(string, string, string, string) error { time.Sleep(time.Hour); return nil },
	"says garbage":  raw([]byte("Last login: today from elsewhere")),
	"echoes":        func(string, string, string, string) error { _, err := io.Copy(os.Stdout, os.Stdin); return err },
	"offers little": said(func(w *castp.Writer) error { return w.Hello(castp.ReadableIndex) }),
	"gives up":      said(func(w *castp.Writer) error { return w.Abort(13, "not for you") }),
	"sends what nobody wants": said(func(w *castp.Writer) error {
		return errors.Join(w.Hello(castp.ReadableStore), w.Missing(chunker.ID{1}))
	}),
	"sends an index": said(func(w *castp.Writer) error {
		return errors.Join(w.Hello(castp.ReadableStore), w.File(castp.Index, []byte("?")))
	}),
	"sends other chunks": answers(func(w *castp.Writer, id chunker.ID) error { return w.Chunk(id, false, []byte("another")) }),
	"sends long chunks": answers(func(w *castp.Writer, id chunker.ID) error {
		return w.Chunk(id, true, make([]byte, castp.MaxChunk))
	}),
	"not found": func(string, string, string, string) error {
		fmt.Fprintln(os.Stderr, "sh: 1: casync: not found")
		os.Exit(127)
		return nil
	},
	"no way": func(string, string, string, string) error {
		fmt.Fprintln(os.Stderr, "me@host: Permission denied (publickey).")
		os.Exit(255)
		return nil
	},
}

func honest(verb, archive, index, chunks string) error {
	return serve(verb, archive, index, chunks, os.Stdout)
}

// serve is an honest far side.
func serve(verb, archive, index, chunks string, out io.Writer) error {
	w, err := store.Writable(local.New(chunks, local.Options{}), store.Form{Either: true})
	if err != nil {
		return err
	}
	if verb == "push" {
		put := func(path string) func(context.Context, io.Reader) error {
			if path == "-" {
				return nil
			}
			dir, name := filepath.Split(path)
			return func(ctx context.Context, r io.Reader) error {
				return local.New(dir, local.Options{}).Put(ctx, name, r, -1)
			}
		}
		return farside.Push{Store: w, Index: put(index), Archive: put(archive)}.Serve(context.Background(), os.Stdin, out)
	}
	p := farside.Pull{Stores: []store.Store{w}}
	for _, f := range []struct {
		path string
		to   *io.Reader
	}{{archive, &p.Archive}, {index, &p.Index}} {
		if f.path == "-" {
			continue
		}
		r, err := os.Open(f.path)
		if err != nil {
			farside.Refuse(out, err)
			return err
		}
		*f.to = r
	}
	return p.Serve(context.Background(), os.Stdin, out)
}

// dying ends the process when so many bytes were written.
type dying struct {
	io.Writer
	left int
}

func (d *dying) Write(p []byte) (int, error) {
	if d.left -= len(p); d.left < 0 {
		os.Exit(3)
	}
	return d.Writer.Write(p)
}

// stalling writes no more than so many bytes.
type stalling struct {
	io.Writer
	left int
}

func (s *stalling) Write(p []byte) (int, error) {
	if s.left -= len(p); s.left < 0 {
		time.Sleep(time.Hour)
	}
	return s.Writer.Write(p)
}

func raw(b []byte) func(string, string, string, string) error {
	return func(string, string, string, string) error {
		_, err := os.Stdout.Write(b)
		return err
	}
}

// said is a far side that says something and waits for the end.
func said(what func(w *castp.Writer) error) func(string, string, string, string) error {
	return func(string, string, string, string) error {
		w := castp.NewWriter(os.Stdout)
		if err := errors.Join(what(w), w.Flush()); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
}

// answers is a far side that has its own idea of a chunk.
func answers(give func(w *castp.Writer, id chunker.ID) error) func(string, string, string, string) error {
	return func(string, string, string, string) error {
		w, r := castp.NewWriter(os.Stdout), castp.NewReader(os.Stdin)
		if err := errors.Join(w.Hello(castp.ReadableStore), w.Flush()); err != nil {
			return err
		}
		for {
			m, err := r.Next()
			if err == io.EOF {
				return nil
			}
			for _, id := range m.IDs {
				if m.Flags&castp.HighPriority == 0 { // the question whether it answers twice
					err = errors.Join(err, w.Missing(id))
				} else {
					err = errors.Join(err, give(w, id))
				}
			}
			if err := errors.Join(err, w.Flush()); err != nil {
				return err
			}
		}
	}
}

// open returns the store at a path of the far side.
func open(t *testing.T, path string, opt ssh.Options) *ssh.Store {
	t.Helper()
	s, err := ssh.New("host:"+path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// folder is a folder of these objects.
func folder(t *testing.T, objects map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	b := local.New(dir, local.Options{})
	for name, content := range objects {
		if err := b.Put(t.Context(), name, bytes.NewReader(content), -1); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestStore(t *testing.T) {
	behave(t, "caravel")
	storetest.RunStore(t, store.Form{}, func(t *testing.T, objects map[string][]byte) store.Store {
		return open(t, folder(t, objects), ssh.Options{})
	})
}

func TestWriter(t *testing.T) {
	behave(t, "caravel")
	storetest.Run(t, func(t *testing.T) store.Writer {
		return open(t, filepath.Join(t.TempDir(), "new.castr"), ssh.Options{}).Writer()
	})
}

// casync is Debian's, without an ssh between.
func casync(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/usr/bin/casync"); err != nil {
		t.Skip("casync is not installed")
	}
	script := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nshift\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CASYNC_SSH_PATH", script)
	t.Setenv("CASYNC_REMOTE_PATH", "/usr/bin/casync")
}

func TestWriterIntoCasync(t *testing.T) {
	casync(t)
	var dirs []string
	storetest.Run(t, func(t *testing.T) store.Writer {
		dir := t.TempDir()
		dirs = append(dirs, dir)
		return open(t, filepath.Join(dir, "new.castr"), ssh.Options{}).Writer()
	})
}

func TestRefusedPlaces(t *testing.T) {
	tests := []struct{ location, want string }{
		{"host:", "names no path"},
		{":path", "names no host"},
		{"-oProxyCommand=x:path", "names no host"},
		{"ho st:path", "names no host"},
		{"user@:path", "names no host"},
		{"host:a\nb", "line break"},
		{"ssh://host", "names no path"},
		{"ssh:///path", "names no host"},
		{"ssh://user:secret@host/path", "takes no password"},
		{"ssh://host:port/path", "a URL is of the form"},
		{"../../x://host/path", "no scheme has such letters"},
	}
	for _, tt := range tests {
		_, err := ssh.New(tt.location, ssh.Options{})
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want %q in it", tt.location, err, tt.want)
		}
	}
}

package sftp_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"

	"caravel/store/sftp"
)

// The test binary is also what it runs in ssh's place: a server behind no network,
// in the way that the environment says.
const (
	asServer = "CARAVEL_TEST_SFTP"      // how it serves
	inFolder = "CARAVEL_TEST_SFTP_HOME" // where relative paths begin, and where it leaves notes
)

// openSSH is the real server, as Debian has it.
const openSSH = "/usr/lib/openssh/sftp-server"

func TestMain(m *testing.M) {
	if mode := os.Getenv(asServer); mode != "" {
		os.Exit(serve(mode))
	}
	os.Exit(m.Run())
}

// serve is the life of a server; what it is called with goes into a note.
func serve(mode string) int {
	home := os.Getenv(inFolder)
	note(home, "calls", strings.Join(os.Args[1:], " "))
	mode, figure, _ := strings.Cut(mode, ":")
	n, _ := strconv.Atoi(figure)
	var out io.WriteCloser = os.Stdout
	switch mode {
	case "refused":
		fmt.Fprintln(os.Stderr, "ssh: connect to host example.com port 22: Connection refused\r")
		return 255
	case "denied":
		fmt.Fprintln(os.Stderr, "Warning: nobody reads this\nme@example.com: Permission denied (publickey).")
		return 255
	case "unknown":
		fmt.Fprintln(os.Stderr, "ssh: Could not resolve hostname example.invalid: Name or service not known")
		return 255
	case "silent":
		io.Copy(io.Discard, os.Stdin)
		return 0
	case "greeting":
		fmt.Println("Welcome! It is a fine day.")
	case "dies": // after n bytes, but for the last one
		if calls(home) < 3 {
			out = &limited{out, n, func() { os.Exit(3) }}
		}
	case "stalls": // after n bytes
		out = &limited{out, n, func() { time.Sleep(time.Hour) }} // and not select, which Go finds out
	}
	server, err := pkgsftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, out}, pkgsftp.WithServerWorkingDirectory(home))
	if err == nil {
		err = server.Serve()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// limited does something else than write after n bytes.
type limited struct {
	io.WriteCloser
	n    int
	then func()
}

func (l *limited) Write(p []byte) (int, error) {
	if l.n < len(p) {
		_, _ = l.WriteCloser.Write(p[:l.n])
		l.then()
	}
	l.n -= len(p)
	return l.WriteCloser.Write(p)
}

func note(home, name, line string) {
	f, err := os.OpenFile(filepath.Join(home, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// calls is how often the program in ssh's place was started.
func calls(home string) int {
	b, _ := os.ReadFile(filepath.Join(home, "calls"))
	return strings.Count(string(b), "\n")
}

// A scene is a folder, and a server of it.
type scene struct {
	home string // where the server begins
	dir  string // home/store
	opt  sftp.Options
}

// play sets a scene in which the server behaves in a way.
func play(t *testing.T, mode string, opt sftp.Options) *scene {
	t.Helper()
	if mode == "openssh" {
		if _, err := os.Stat(openSSH); err != nil {
			t.Skip("there is no sftp-server of OpenSSH's")
		}
	}
	s := &scene{home: t.TempDir(), opt: opt}
	s.dir = filepath.Join(s.home, "store")
	t.Setenv(asServer, mode)
	t.Setenv(inFolder, s.home)
	program := os.Executable
	if mode == "openssh" {
		program = func() (string, error) { return filepath.Abs("testdata/ssh") }
	}
	var err error
	if s.opt.SSH, err = program(); err != nil {
		t.Fatal(err)
	}
	s.opt.Hosts = sftp.NewHosts()
	t.Cleanup(func() {
		if err := s.opt.Hosts.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put writes objects, by other means than ours, that are a day old.
func (s *scene) put(t *testing.T, objects map[string][]byte) {
	t.Helper()
	old := time.Now().Add(-24 * time.Hour)
	for name, b := range objects {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// open is the folder in the scene.
func (s *scene) open(t *testing.T) *sftp.Dir {
	t.Helper()
	d, err := sftp.New("sftp://me@example.com"+s.dir, s.opt)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// all waits for n goroutines.
func all(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

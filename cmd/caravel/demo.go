package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/internal/origin"
)

// demoRTT is how far away the demo's web server is.
const demoRTT = 20 * time.Millisecond

func demoCommand() *cli.Command {
	var keep string
	return &cli.Command{
		Name:     "demo",
		Category: self,
		Usage:    "show in seconds what caravel is for",
		Description: `Makes a small disk image out of files that it finds, and an image of the files
themselves, puts them behind a web server on this machine that is 20 ms away, uses
them from there without downloading them, as a file, over NBD and as a directory,
and shows what travelled. It needs no root, listens on loopback only and removes
what it made.

` + examples(
			"caravel demo",
			"# leave the image, its chunks and copy for playing",
			"caravel demo --keep ./demo",
		),
		Flags: []cli.Flag{&cli.StringFlag{Name: "keep", Usage: "make everything in `DIR` and leave it there", Destination: &keep}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return usagef("want no arguments, not %d", c.NArg())
			}
			return demo(c.Context, c.App.Writer, keep)
		},
	}
}

// A demonstration is one run of the demo. Its steps call the commands as a user
// would, as processes of their own.
type demonstration struct {
	ctx    context.Context
	w      io.Writer
	self   string // this program
	dir    string // where everything lies
	origin *origin.Origin
	packed int64 // bytes of the index and the store: what a download costs
}

func demo(ctx context.Context, w io.Writer, keep string) (err error) {
	d := &demonstration{ctx: ctx, w: w}
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	if err := d.settle(keep); err != nil {
		return err
	}
	if keep == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	}
	began := time.Now()
	for _, step := range []func() error{d.image, d.make, d.serve, d.mount, d.nbd, d.extract, d.tree} {
		if err := step(); err != nil {
			return errors.Join(err, d.close())
		}
	}
	if err := d.close(); err != nil {
		return err
	}
	d.say("\nThat took %.1f s.", time.Since(began).Seconds())
	if keep == "" {
		d.say("Everything is removed again; --keep DIR leaves it for playing.")
		return nil
	}
	d.say("What it made is in %s. Put www behind any web server, or read it from the disk:", d.dir)
	d.say("    caravel mount %s/www/disk.caibx MOUNTPOINT", d.dir)
	d.say("    caravel mount %s/www/tree/tree.caidx MOUNTPOINT", d.dir)
	return nil
}

// settle finds the folder in which the demo works.
func (d *demonstration) settle(keep string) (err error) {
	if keep == "" {
		d.dir, err = os.MkdirTemp("", "caravel-demo")
		return err
	}
	if d.dir, err = filepath.Abs(keep); err != nil {
		return err
	}
	if entries, err := os.ReadDir(d.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", d.dir)
	}
	return os.MkdirAll(d.dir, 0o777)
}

func (d *demonstration) close() error {
	if d.origin == nil {
		return nil
	}
	return d.origin.Close()
}

func (d *demonstration) path(name ...string) string {
	return filepath.Join(append([]string{d.dir}, name...)...)
}

func (d *demonstration) say(format string, a ...any) { fmt.Fprintf(d.w, format+"\n", a...) }

// title begins a step.
func (d *demonstration) title(format string, a ...any) { d.say("\n"+format, a...) }

func (d *demonstration) image() error {
	d.title("A disk image, out of files of this machine:")
	what, err := demoImage(d.ctx, d.path("disk.img"), d.path("files"))
	if err != nil {
		return err
	}
	st, err := os.Stat(d.path("disk.img"))
	if err != nil {
		return err
	}
	d.say("    disk.img, %s: %s", megabytes(st.Size()), what)
	return nil
}

func (d *demonstration) make() error {
	d.title("Cut it into chunks, which lie packed in default.castr beside the index:")
	if err := os.Mkdir(d.path("www"), 0o777); err != nil {
		return err
	}
	if err := d.caravel("make", "www/disk.caibx", "disk.img"); err != nil {
		return err
	}
	chunks, size, err := weigh(d.path("www"))
	d.packed = size
	d.say("    %d chunks, %s: what a download of the image costs.", chunks, megabytes(size))
	return err
}

func (d *demonstration) serve() (err error) {
	d.origin, err = origin.Start(d.path("www"), origin.Options{RTT: demoRTT})
	if err != nil {
		return err
	}
	d.title("A plain web server with that folder, %v away: %s", demoRTT, d.origin.URL())
	return nil
}

func (d *demonstration) mount() error {
	d.title("Use the image at once, as a file:")
	if err := os.Mkdir(d.path("mnt"), 0o777); err != nil {
		return err
	}
	d.origin.Reset()
	began := time.Now()
	p, line, err := d.start("mount", d.origin.URL()+"/disk.caibx", "mnt")
	if err != nil {
		d.say("    Not on this machine: %v", err)
		return nil
	}
	d.say("    %s    (%.2f s)", line, time.Since(began).Seconds())
	f, err := os.Open(d.path("mnt", "disk"))
	if err == nil {
		err = errors.Join(d.read(f), f.Close())
	}
	return errors.Join(err, p.stop())
}

func (d *demonstration) nbd() error {
	d.title("Or over NBD, as qemu, nbdcopy and nbd-client read it:")
	d.origin.Reset()
	p, line, err := d.start("nbd-server", "--listen", "127.0.0.1:0", d.origin.URL()+"/disk.caibx")
	if err != nil {
		return err
	}
	d.say("    %s", line)
	c, err := dialNBD(strings.TrimPrefix(line, "Serving: nbd://"))
	if err == nil {
		err = errors.Join(d.read(c), c.Close())
	}
	return errors.Join(err, p.stop())
}

func (d *demonstration) extract() error {
	d.title("Or all of it, verified:")
	d.origin.Reset()
	began := time.Now()
	if err := d.caravel("extract", d.origin.URL()+"/disk.caibx", "copy.img"); err != nil {
		return err
	}
	same, err := sameFile(d.path("disk.img"), d.path("copy.img"))
	if err != nil {
		return err
	}
	if !same {
		return errors.New("copy.img is not what disk.img is")
	}
	d.say("    copy.img is what disk.img is (%.2f s)", time.Since(began).Seconds())
	d.travelled()
	return d.caravel("digest", "copy.img")
}

// travelled says what came over the link since the last step.
func (d *demonstration) travelled() {
	c := d.origin.Counts()
	d.say("    Travelled: %s in %d requests, %.0f %% of a download.", megabytes(c.Bytes), c.Requests, 100*float64(c.Bytes)/float64(d.packed))
}

// caravel runs a command to its end and shows both.
func (d *demonstration) caravel(args ...string) error {
	d.say("    $ caravel %s", strings.Join(args, " "))
	cmd := exec.CommandContext(d.ctx, d.self, args...)
	cmd.Dir = d.dir
	cmd.Env = demoEnv()
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		d.say("    %s", strings.TrimSuffix(line, "\n"))
	}
	return explain(args[0], err)
}

// demoEnv keeps the user's own store and cache out of the demo.
func demoEnv() []string {
	return append(os.Environ(), "CASYNC_STORE=", "CARAVEL_CACHE_DIR="+noCache)
}

// explain adds what the command said to its exit status.
func explain(command string, err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		text := strings.TrimSpace(string(exit.Stderr))
		return errors.New(text[strings.LastIndex(text, "\n")+1:])
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// A running is a command that stays until it is stopped.
type running struct {
	cmd    *exec.Cmd
	stderr *strings.Builder
}

// start runs a command until it says on its first line that it is ready.
func (d *demonstration) start(args ...string) (*running, string, error) {
	d.say("    $ caravel %s", strings.Join(args, " "))
	p := &running{exec.CommandContext(d.ctx, d.self, args...), &strings.Builder{}}
	p.cmd.Dir = d.dir
	p.cmd.Env = demoEnv()
	p.cmd.Stderr = p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, "", err
	}
	line, err := firstLine(stdout)
	if err != nil {
		return nil, "", errors.Join(errors.New(strings.TrimSpace(p.stderr.String())), p.cmd.Wait())
	}
	return p, line, nil
}

// stop ends the command as a service manager would, or as Windows does.
func (p *running) stop() error {
	if p.cmd.Cancel() == nil {
		return p.cmd.Wait()
	}
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed
	return err
}

// firstLine reads up to the first line break and not a byte more: the command
// may write again.
func firstLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}

// megabytes is n for people.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

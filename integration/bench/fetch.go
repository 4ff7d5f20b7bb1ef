//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"caravel/integration/relay"
)

// A fetch is one program that brings all chunks of the tree over a line.
type fetch struct {
	name string
	env  []string
	args []string // to is the empty folder for them
	to   string
}

// fetchHTTP brings the tree from nginx, over a wide and over a narrow line.
func (s *setting) fetchHTTP() error {
	at, err := freeAddress()
	if err != nil {
		return err
	}
	args, err := s.nginx(at, s.path("www"))
	if err != nil {
		return err
	}
	stop, err := serveAt(at, args...)
	if err != nil {
		return err
	}
	defer stop()
	for _, line := range []struct {
		name, goal string
		rate       int64
	}{{"1 Gbit/s", "<= 2.0 s; 6 times desync", gigabit}, {"100 Mbit/s", ">= 0.9 of the line", slow}} {
		if err := s.fetchAll("HTTP, "+line.name, line.goal, at, line.rate, func(far string) []fetch {
			return s.fetches("http://"+far, nil)
		}); err != nil {
			return err
		}
	}
	return nil
}

// fetches are what reads from a location, ours first.
func (s *setting) fetches(from string, env []string) []fetch {
	to := s.path("fetched")
	x, castr := from+"/tree.caidx", from+"/default.castr"
	all := []fetch{{"caravel", env, []string{s.bin, "cache", "--progress=none", "-s", castr, "-c", to, x}, to}}
	if s.desync != "" {
		all = append(all, fetch{"desync", env, []string{s.desync, "cache", "-s", castr, "-c", to, x}, to})
	}
	return all
}

// fetchS3 brings the tree from an S3 server.
func (s *setting) fetchS3() error {
	program, err := exec.Command("go", "tool", "-modfile=integration/servers/go.mod", "-n", "versitygw").Output()
	if err != nil {
		return fmt.Errorf("versitygw: %w", err)
	}
	root, sidecar := s.path("s3"), s.path("bucket-meta")
	if err := errors.Join(os.RemoveAll(root), os.MkdirAll(root, 0o755), os.MkdirAll(sidecar, 0o755)); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-al", s.path("www"), filepath.Join(root, "images")).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	at, err := freeAddress()
	if err != nil {
		return err
	}
	stop, err := serveAt(at, strings.TrimSpace(string(program)), "--port", at, "--access", "bench", "--secret", "bench-secret",
		"--keep-alive", "--quiet", "posix", "--sidecar", sidecar, root)
	if err != nil {
		return err
	}
	defer stop()
	env := []string{"S3_ACCESS_KEY=bench", "S3_SECRET_KEY=bench-secret", "S3_REGION=us-east-1"}
	return s.fetchAll("S3, 1 Gbit/s", "<= 1.5 times HTTP; 6 times desync", at, gigabit, func(far string) []fetch {
		return s.fetches("s3+http://"+far+"/images", env)
	})
}

// fetchSSH brings the tree from a far side that is casync, by OpenSSH. casync has no
// command that keeps chunks: what it does with the least work of its own is the digest
// of the image.
func (s *setting) fetchSSH() error {
	if s.casync == "" || !installed("sshd") {
		return nil
	}
	at, err := freeAddress()
	if err != nil {
		return err
	}
	server, err := s.sshd(at)
	if err != nil {
		return err
	}
	stop, err := serveAt(at, server...)
	if err != nil {
		return err
	}
	defer stop()
	return s.fetchAll("ssh, 1 Gbit/s", ">= 5 times casync", at, gigabit, func(far string) []fetch {
		env, from := s.sshClient(far), "far:"+s.path("www")
		all := s.fetches(from, env)
		for i, remote := range []string{s.casync, s.bin} {
			f := all[0]
			f.name = []string{"caravel", "caravel both"}[i]
			f.env = append(env, "CASYNC_REMOTE_PATH="+remote)
			all = append(all[:i], append([]fetch{f}, all[i:]...)...)
		}
		all = all[:2]
		for _, a := range [][]string{{"digest", from + "/tree.caidx"}, {"extract", from + "/tree.caidx", s.path("out")}} {
			all = append(all, fetch{"casync " + a[0], env, append([]string{s.casync}, a...), s.path("out")})
		}
		return all
	})
}

// sshd writes what a server at an address needs, with keys that its clients have.
func (s *setting) sshd(at string) ([]string, error) {
	dir := s.path("ssh")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700), os.MkdirAll("/run/sshd", 0o755)); err != nil {
		return nil, err
	}
	for _, key := range []string{"host", "me"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	const conf = "ListenAddress 127.0.0.1\nPort %[2]s\nHostKey %[1]s/host\nAuthorizedKeysFile %[1]s/me.pub\nPidFile none\n" +
		"StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nMaxStartups 100\nSetEnv HOME=/nonexistent TMPDIR=%[1]s\n" // what a shell does first is no figure, nor where casync has its queue of requests
	path := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(path, fmt.Appendf(nil, conf, dir, port), 0o600); err != nil {
		return nil, err
	}
	program, err := exec.LookPath("sshd") // it wants to be called by its whole path
	return []string{program, "-D", "-e", "-f", path, "-o", "LogLevel=ERROR"}, err
}

// sshClient is the environment of clients that know the server, behind the line, as far.
func (s *setting) sshClient(far string) []string {
	_, port, _ := net.SplitHostPort(far)
	me, _ := user.Current()
	script := s.path("ssh", "ssh")
	text := fmt.Sprintf("#!/bin/sh\nexec ssh -F none -i %s -o Port=%s -o HostName=127.0.0.1 -o User=%s -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \"$@\"\n",
		s.path("ssh", "me"), port, me.Username)
	_ = os.WriteFile(script, []byte(text), 0o755) // the clients say that it is missing
	return []string{"CASYNC_SSH_PATH=" + script, "TMPDIR=" + s.path("ssh")}
}

// fetchAll has programs bring the tree from behind a line, in turns, each into an empty
// folder; a peer once.
func (s *setting) fetchAll(title, goal, server string, rate int64, programs func(far string) []fetch) error {
	r, err := relay.Start(server, relay.Options{RTT: rtt, Up: rate, Down: rate})
	if err != nil {
		return err
	}
	defer r.Close()
	all := programs(r.Addr())
	times, bytes := make([][]float64, len(all)), make([]int64, len(all))
	for run := range s.runs {
		for i, f := range all {
			if run > 0 && f.args[0] != s.bin {
				continue
			}
			if err := afresh(f.to)(); err != nil {
				return err
			}
			before := r.Counts().Down
			cmd := exec.Command(f.args[0], f.args[1:]...)
			cmd.Env = append(os.Environ(), f.env...)
			began := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%v: %w: %s", f.args, err, out)
			}
			times[i] = append(times[i], time.Since(began).Seconds())
			bytes[i] = r.Counts().Down - before
		}
	}
	fmt.Printf("\nall chunks of the tree over %s, 20 ms\n", title)
	ours := median(times[0])
	for i, f := range all {
		m := median(times[i])
		row(f.name, map[bool]string{true: goal}[i == 0], "%6.2f s  %6.1f MB  %.2f of the line  (%.1f times caravel)", m,
			float64(bytes[i])/1e6, float64(bytes[i])/m/float64(rate), m/ours)
	}
	return nil
}

// serveAt starts a server, to be stopped by the caller once it is not needed any more.
func serveAt(at string, args ...string) (stop func(), err error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // its status is no figure
	}
	if err := listens(at); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

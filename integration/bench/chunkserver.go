//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// What the clients of a chunk server are.
const (
	webClients = 64
	webTime    = 5 * time.Second
)

// A webServer serves a folder of chunks at an address.
type webServer struct {
	name string
	args []string
}

// chunkServer measures caravel's chunk-server and nginx in turns, both over the same
// files, which are warm, with 64 clients on the same machine, each with a connection of
// its own.
func (s *setting) chunkServer() error {
	if !installed("nginx") {
		return nil
	}
	dir := s.path("www", "default.castr")
	names, err := chunkFiles(dir)
	if err != nil {
		return err
	}
	at, err := freeAddress()
	if err != nil {
		return err
	}
	nginx, err := s.nginx(at, dir)
	if err != nil {
		return err
	}
	ours := []string{s.bin, "chunk-server", "--store", dir, "--listen", at}
	servers := []webServer{
		{"caravel", ours},
		{"caravel, verified", append(ours, "--skip-verify-read=no")},
		{"nginx", nginx},
	}
	if s.desync != "" {
		servers = append(servers[:2:2], webServer{"desync", []string{s.desync, "chunk-server", "-s", dir, "-l", at}}, servers[2])
	}
	fmt.Printf("\n%d chunks over HTTP/1.1, %d clients, loopback (MB/s)\n", len(names), webClients)
	all, cost := make([][]float64, len(servers)), make([][]float64, len(servers))
	for run := range s.runs + 1 {
		for i, w := range servers {
			rate, used, err := w.measure(at, names)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if run > 0 { // the first one warms up
				all[i] = append(all[i], rate)
				cost[i] = append(cost[i], used)
			}
		}
	}
	last := median(all[len(all)-1])
	for i, w := range servers {
		goal := ""
		if i == 0 {
			goal = ">= 0.8 times nginx"
		}
		row(w.name, goal, "%9.0f  (%.2f times)  %4.0f µs of a processor for a chunk", median(all[i]), median(all[i])/last, median(cost[i]))
	}
	return nil
}

// chunkFiles are the paths of a store's chunks, as they stand in URLs.
func chunkFiles(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s: no chunks", dir)
	}
	return names, err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// nginx writes a configuration as one for such a server would be, and returns how to
// start it.
func (s *setting) nginx(at, dir string) ([]string, error) {
	const conf = `
worker_processes auto;
pid %[1]s/nginx.pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/nginx-temp;
	proxy_temp_path %[1]s/nginx-temp;
	fastcgi_temp_path %[1]s/nginx-temp;
	uwsgi_temp_path %[1]s/nginx-temp;
	scgi_temp_path %[1]s/nginx-temp;
	default_type application/octet-stream;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 100000000;
	server { listen %[2]s; root %[3]s; }
}
`
	path := s.path("nginx.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, conf, s.dir, at, dir), 0o644); err != nil {
		return nil, err
	}
	// Its workers are nobody.
	for p := dir; p != "/"; p = filepath.Dir(p) {
		if st, err := os.Stat(p); err != nil {
			return nil, err
		} else if st.Mode()&0o005 != 0o005 {
			if err := os.Chmod(p, st.Mode()|0o005); err != nil {
				return nil, err
			}
		}
	}
	return []string{"nginx", "-p", s.dir, "-c", path, "-e", "stderr", "-g", "daemon off;"}, nil
}

// measure starts a server and has clients read from it: MB/s, and µs of a processor
// that the server takes for a chunk.
func (w webServer) measure(at string, names []string) (rate, used float64, err error) {
	cmd := exec.Command(w.args[0], w.args[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	var bytes, chunks atomic.Int64
	defer func() {
		err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), ignoreExit(cmd.Wait()))
		took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() // of nginx's workers, too
		used = took.Seconds() * 1e6 / float64(max(chunks.Load(), 1))
	}()
	if err := listens(at); err != nil {
		return 0, 0, err
	}
	var all errgroup.Group
	began := time.Now()
	for i := range webClients {
		all.Go(func() error { return readChunks(at, names, uint64(i), began.Add(webTime), &bytes, &chunks) })
	}
	err = all.Wait()
	return float64(bytes.Load()) / 1e6 / time.Since(began).Seconds(), 0, err
}

// listens waits until somebody accepts connections.
func listens(at string) (err error) {
	for range 1000 {
		var c net.Conn
		if c, err = net.Dial("tcp", at); err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// readChunks is a client, which does as little as it can: it shares the machine with
// the server.
func readChunks(at string, names []string, seed uint64, until time.Time, total, chunks *atomic.Int64) error {
	c, err := net.Dial("tcp", at)
	if err != nil {
		return err
	}
	defer c.Close()
	r, random := bufio.NewReaderSize(c, 256<<10), rand.New(rand.NewPCG(seed, 0))
	for time.Now().Before(until) {
		name := names[random.IntN(len(names))]
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", name); err != nil {
			return err
		}
		n, err := answerLength(r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if n < 0 { // desync says no length
			n, err = discardPieces(r)
		} else {
			_, err = io.CopyN(io.Discard, r, n)
		}
		if err != nil {
			return err
		}
		total.Add(n)
		chunks.Add(1)
	}
	return nil
}

// answerLength reads the head of an answer; -1: its body comes in pieces.
func answerLength(r *bufio.Reader) (n int64, err error) {
	n = -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimSpace(line)
		name, value, _ := strings.Cut(string(line), ":")
		switch {
		case first && !bytes.Contains(line, []byte(" 200 ")):
			return 0, errors.New(string(line))
		case strings.EqualFold(name, "content-length"):
			if n, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64); err != nil {
				return 0, err
			}
		case len(line) == 0:
			return n, nil
		}
	}
}

// discardPieces reads a body of chunked encoding to its end.
func discardPieces(r *bufio.Reader) (total int64, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return total, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil {
			return total, err
		}
		if _, err := io.CopyN(io.Discard, r, n+2); err != nil {
			return total, err
		}
		if n == 0 {
			return total, nil
		}
		total += n
	}
}

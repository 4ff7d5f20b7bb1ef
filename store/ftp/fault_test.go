package ftp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/ftp"
)

// A script is what a server answers: by the word of a command, "" being the greeting.
// "stall" is silence, "cut" the end of the connection.
type script map[string]string

// usual are the answers of a server that has one file, of ten bytes.
var usual = script{
	"": "220 hello", "USER": "331 password", "PASS": "230 in", "FEAT": "211-Features:\r\n MDTM\r\n211 End", "TYPE": "200 binary",
	"SIZE": "213 10", "MDTM": "213 20200101000000", "RETR": "150 it comes", "STOR": "150 let it come", "QUIT": "221 bye",
	"REST": "350 from there", "NOOP": "200 here", "RNFR": "350 to what", "RNTO": "250 done", "DELE": "250 gone",
}

// but are the answers with others in their place.
func (s script) but(word, answer string) script {
	changed := script{word: answer}
	for w, a := range s {
		if w != word {
			changed[w] = a
		}
	}
	return changed
}

// serve is a server that follows a script, and gives bytes to who retrieves.
func serve(t *testing.T, s script, bytes string) *ftp.Dir {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.talk(conn, bytes)
		}
	}()
	hosts := ftp.NewHosts()
	t.Cleanup(func() { hosts.Close() })
	d, err := ftp.New("ftp://me:secret@"+l.Addr().String()+"/store", ftp.Options{Hosts: hosts, Stall: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// talk is one connection.
func (s script) talk(conn net.Conn, bytes string) {
	defer conn.Close()
	say := func(word string) bool {
		answer, ok := s[word]
		switch {
		case !ok:
			answer = "502 what is " + word
		case answer == "stall":
			io.Copy(io.Discard, conn)
			return false
		case answer == "cut":
			return false
		}
		fmt.Fprintf(conn, "%s\r\n", answer)
		return true
	}
	if !say("") {
		return
	}
	var data net.Listener
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		word, _, _ := strings.Cut(lines.Text(), " ")
		if word == "EPSV" {
			data, _ = net.Listen("tcp", "127.0.0.1:0")
			_, port, _ := net.SplitHostPort(data.Addr().String())
			fmt.Fprintf(conn, "229 there (|||%s|)\r\n", port)
			continue
		}
		if !say(word) {
			return
		}
		if (word == "RETR" || word == "STOR") && strings.HasPrefix(s[word], "1") {
			to, err := data.Accept()
			data.Close()
			if err != nil {
				return
			}
			if word == "RETR" {
				io.WriteString(to, bytes)
			} else {
				io.Copy(io.Discard, to)
			}
			if s["data"] == "stall" {
				io.Copy(io.Discard, conn)
			}
			to.Close()
			if s["data"] == "lost" {
				fmt.Fprint(conn, "426 lost\r\n")
			} else {
				fmt.Fprint(conn, "226 done\r\n")
			}
		}
	}
}

func get(ctx context.Context, d *ftp.Dir) (string, error) {
	body, _, err := d.Open(ctx, "x", store.Range{})
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	return string(b), err
}

// TestFaults of a server are errors of one line, in time, without the password.
func TestFaults(t *testing.T) {
	const bytes = "0123456789"
	tests := []struct {
		name   string
		script script
		bytes  string
		want   string // "": the bytes
		kind   error
	}{
		{"none", usual, bytes, "", nil},
		{"no time", usual.but("MDTM", "550 no time"), bytes, "", nil},
		{"missing", usual.but("SIZE", "550 no such file"), bytes, "not there", store.ErrMissing},
		{"missing meanwhile", usual.but("RETR", "550 no such file"), bytes, "not there", store.ErrMissing},
		{"forbidden", usual.but("RETR", "550 Permission denied."), bytes, `550 "Permission denied."`, store.ErrRefused},
		{"password", usual.but("PASS", "530 no"), bytes, `530 "no"`, store.ErrRefused},
		{"user", usual.but("USER", "530 anonymous only"), bytes, `"anonymous only" to the login`, store.ErrRefused},
		{"full", usual.but("", "421 too many"), bytes, `421 "too many"`, nil},
		{"no size", usual.but("SIZE", "213 many"), bytes, "", errors.ErrUnsupported},
		{"negative", usual.but("SIZE", "213 -1"), bytes, "", errors.ErrUnsupported},
		{"shorter", usual, bytes[:5], "changes all the time", nil},
		{"longer", usual, bytes + bytes, "", errors.ErrUnsupported},
		{"lost", usual.but("data", "lost"), bytes, `426 "lost"`, nil},
		{"silent", usual.but("", "stall"), bytes, "stalled", nil},
		{"silent later", usual.but("SIZE", "stall"), bytes, "stalled", nil},
		{"silent with bytes", usual.but("data", "stall"), bytes[:5], "stalled", nil},
		{"cut", usual.but("RETR", "cut"), bytes, "EOF", nil},
		{"long answer", usual.but("SIZE", strings.Repeat("2", 100)), bytes, "", errors.ErrUnsupported},
	}
	for _, tt := range tests {
		d := serve(t, tt.script, tt.bytes)
		got, err := get(t.Context(), d)
		if errors.Is(tt.kind, errors.ErrUnsupported) { // any error will do
			if err == nil {
				t.Errorf("%s: %q", tt.name, got)
			}
			continue
		}
		if tt.want == "" {
			if err != nil || got != tt.bytes {
				t.Errorf("%s: %q, %v", tt.name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || store.Final(err) != (tt.kind != nil) || tt.kind != nil && !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v (final %v), want %q and %v", tt.name, err, store.Final(err), tt.want, tt.kind)
			continue
		}
		if text := err.Error(); strings.Contains(text, "secret") || strings.Contains(text, "\n") || !strings.HasPrefix(text, d.Locate("x")) {
			t.Errorf("%s: %q", tt.name, text)
		}
	}
	d := serve(t, usual.but("", "421 too many"), bytes)
	_, err := get(t.Context(), d)
	if busy := (*store.BusyError)(nil); !errors.As(err, &busy) {
		t.Errorf("a full server: %v", err)
	}
}

// TestPutFaults leave an error.
func TestPutFaults(t *testing.T) {
	tests := []struct {
		name   string
		script script
		want   string
	}{
		{"none", usual, ""},
		{"refused", usual.but("STOR", "550 no"), "550"},
		{"full", usual.but("STOR", "452 no room"), "452"},
		{"lost", usual.but("data", "lost"), "426"},
		{"cut", usual.but("SIZE", "213 7"), "7 bytes have arrived of 10"},
		{"no sizes", usual.but("SIZE", "502 what is that"), ""},
		{"name", usual.but("RNTO", "553 no").but("DELE", "550 no"), "553"},
		{"silent", usual.but("STOR", "stall"), "stalled"},
	}
	for _, tt := range tests {
		d := serve(t, tt.script, "")
		err := d.Put(t.Context(), "x", strings.NewReader("0123456789"), 10)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestCancel in every state.
func TestCancel(t *testing.T) {
	for _, word := range []string{"", "PASS", "SIZE", "RETR", "data"} {
		d := serve(t, usual.but(word, "stall"), "01234")
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(100*time.Millisecond, func() { cancel(gone) })
		if got, err := get(ctx, d); !errors.Is(err, gone) {
			t.Errorf("%q: %q, %v", word, got, err)
		}
		timer.Stop()
		cancel(nil)
	}
}

package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/ssh"
	"caravel/store/storetest"
)

// What a far side does wrong is an error that says so, and says whether asking again
// is of any use.
func TestFaults(t *testing.T) {
	tests := []struct {
		how   string
		want  string // in the error
		final bool
	}{
		{"dies at once", "the far side ended with status 1 (no disk; in this machine)", true},
		{"dies in the middle", "the far side has ended", false},
		{"stalls", "no answer in 1s", false},
		{"says nothing", "no answer in 1s", false},
		{"says garbage", "castp: offset 0: type", false},
		{"echoes", "does not offer a store to read", false},
		{"offers little", "does not offer a store to read", false},
		{"gives up", `gave up: "not for you"`, true},
		{"sends what nobody wants", "which was not asked for", false},
		{"sends an index", "INDEX, where chunks were asked for", false},
		{"sends other chunks", "7 bytes, the index says 100000,", true},
		{"sends long chunks", "more than the", true},
		{"not found", "there is no not found on the far side (sh: 1: casync: not found); install casync or caravel there, or name another with $CASYNC_REMOTE_PATH", true},
		{"no way", "me@host: Permission denied (publickey).", true},
	}
	dir := folder(t, storetest.Objects(t, store.Form{}, storetest.Plains()...))
	for _, tt := range tests {
		t.Run(tt.how, func(t *testing.T) {
			behave(t, tt.how)
			s := open(t, dir, ssh.Options{Stall: time.Second, Sessions: 1})
			var err error
			for i := 0; err == nil && i < 20; i++ {
				var c *store.Chunk
				if c, err = store.Verify(s).Get(t.Context(), storetest.Want(storetest.Plains()[3])); err == nil {
					c.Release()
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
			if !strings.Contains(err.Error(), "host:"+dir) {
				t.Errorf("%v does not say where", err)
			}
			if store.Final(err) != tt.final {
				t.Errorf("%v: final %v, want %v", err, store.Final(err), tt.final)
			}
		})
	}
}

// Writing to a far side that does not work is an error too, at the latest when all is
// to be there.
func TestWriteFaults(t *testing.T) {
	for how, want := range map[string]string{
		"dies at once":  "no disk",
		"says nothing":  "no answer in 1s",
		"offers little": "does not offer a store to write",
		"gives up":      "not for you",
	} {
		t.Run(how, func(t *testing.T) {
			behave(t, how)
			w := open(t, t.TempDir(), ssh.Options{Stall: time.Second}).Writer()
			plain := storetest.Plains()[2]
			c := store.NewChunk(storetest.Want(plain).ID, chunker.SHA512_256, plain, nil)
			defer c.Release()
			err := w.Put(t.Context(), c)
			if err == nil {
				err = w.Sync(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
		})
	}
}

// A damaged chunk cannot be replaced, and that is said.
func TestPutOverDamage(t *testing.T) {
	behave(t, "caravel")
	plain := storetest.Plains()[1]
	want := storetest.Want(plain)
	dir := folder(t, map[string][]byte{store.Form{}.Name(want.ID): []byte("damaged")})
	c := store.NewChunk(want.ID, chunker.SHA512_256, plain, nil)
	defer c.Release()
	err := open(t, dir, ssh.Options{}).Writer().Put(t.Context(), c)
	if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "remove it there") {
		t.Errorf("got %v", err)
	}
}

// What was begun before somebody reads is what he reads from.
func TestWarm(t *testing.T) {
	behave(t, "counted")
	plain := storetest.Plains()[3]
	dir := folder(t, storetest.Objects(t, store.Form{}, plain))
	s := open(t, dir, ssh.Options{})
	s.Warm()
	s.Warm()
	c, err := s.Get(t.Context(), storetest.Want(plain))
	if err != nil {
		t.Fatal(err)
	}
	c.Release()
	if got, err := os.ReadFile(filepath.Join(dir, "sessions")); string(got) != "pull\n" {
		t.Errorf("sessions: %q, error %v", got, err)
	}
}

// There is no ssh here.
func TestNoSSH(t *testing.T) {
	t.Setenv("CASYNC_SSH_PATH", filepath.Join(t.TempDir(), "ssh"))
	_, err := open(t, "/srv", ssh.Options{}).Get(t.Context(), store.Want{})
	if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "install ssh (openssh-client), or name another with $CASYNC_SSH_PATH") {
		t.Errorf("got %v", err)
	}
}

// The next request begins a new session when one has died.
func TestNewSession(t *testing.T) {
	behave(t, "dies in the middle")
	plain := storetest.Plains()[3]
	s := open(t, folder(t, storetest.Objects(t, store.Form{}, plain)), ssh.Options{})
	good, bad := 0, 0
	for range 8 { // two go through, one does not
		c, err := s.Get(t.Context(), storetest.Want(plain))
		if err != nil {
			bad++
			continue
		}
		good++
		c.Release()
	}
	if good < 4 || bad == 0 {
		t.Errorf("%d came, %d did not", good, bad)
	}
}

// Who leaves does not wait, whatever the far side does; nothing runs after Close.
func TestCancel(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, how := range []string{"says nothing", "stalls", "caravel"} {
		t.Run(how, func(t *testing.T) {
			behave(t, how)
			plain := storetest.Plains()[3]
			s, err := ssh.New("host:"+folder(t, storetest.Objects(t, store.Form{}, plain)), ssh.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for ctx.Err() == nil {
						c, err := s.Get(ctx, storetest.Want(plain))
						if err == nil {
							c.Release()
						} else if !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
					}
				})
			}
			time.AfterFunc(100*time.Millisecond, cancel)
			wg.Wait()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, err := s.Get(t.Context(), storetest.Want(plain)); err == nil {
				t.Error("it can be read after its end")
			}
		})
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// Files come and go whole.
func TestFiles(t *testing.T) {
	behave(t, "caravel")
	dir := t.TempDir()
	for _, name := range []string{"an image.catar", "it's.catar"} {
		content := bytes.Repeat([]byte("0123456789"), 50_000)
		b, name, err := ssh.Object("host:"+filepath.Join(dir, name), ssh.Options{})
		if err != nil {
			t.Fatal(err)
		}
		// The tests' ssh has no shell that would take the quotes off.
		name = strings.NewReplacer(" ", "-", "'", "-").Replace(name)
		if _, _, err := b.Open(t.Context(), name, store.Range{}); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: got %v, want ErrMissing", name, err)
		}
		broken := errors.New("broken")
		if err := b.Put(t.Context(), name, io.MultiReader(bytes.NewReader(content), failing{broken}), -1); !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want %v", name, err, broken)
		}
		if err := b.Put(t.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
		for _, r := range []store.Range{{}, {Off: 7}, {Off: 123_456, Len: 5}, {Len: 3}} {
			want := content[r.Off:]
			if r.Len > 0 {
				want = want[:r.Len]
			}
			body, info, err := b.Open(t.Context(), name, r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(got, want) || info.Size != -1 {
				t.Errorf("%s %+v: %d bytes, want %d; error %v", name, r, len(got), len(want), err)
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	b, name, err := ssh.Object("host:"+filepath.Join(dir, "x.caidx"), ssh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Open(t.Context(), name+".tree", store.Range{}); !errors.Is(err, store.ErrMissing) {
		t.Errorf("a file beside an index: %v", err)
	}
	if err := b.Put(t.Context(), name, strings.NewReader("no index"), -1); err == nil || !strings.Contains(err.Error(), "truncated in the header") {
		t.Errorf("what is no index: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

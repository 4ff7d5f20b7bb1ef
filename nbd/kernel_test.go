package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"caravel/nbd"
)

// A kernel is one end of a connection that ServeKernel has the other end of.
type kernel struct {
	*testing.T
	net.Conn
	server *nbd.Server
	stop   context.CancelFunc
	done   chan error // what ServeKernel returned
}

func kernelOf(t *testing.T, r nbd.Reader, size int64) *kernel {
	t.Helper()
	s, err := nbd.NewServer([]nbd.Export{{Name: "disk", Size: size, Reader: r}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	k := &kernel{t, ours, s, cancel, make(chan error, 1)}
	go func() { k.done <- s.ServeKernel(ctx, theirs, "disk") }()
	t.Cleanup(func() { ours.Close() })
	return k
}

// ask sends a request as the kernel does, in one piece.
func (k *kernel) ask(kind uint16, cookie, off uint64, n uint32) {
	k.Helper()
	b := binary.BigEndian.AppendUint32(nil, 0x25609513)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, off)
	b = binary.BigEndian.AppendUint32(b, n)
	if _, err := k.Write(b); err != nil {
		k.Fatal(err)
	}
}

// answered reads one reply with n bytes.
func (k *kernel) answered(cookie uint64, code uint32, want []byte) {
	k.Helper()
	b := make([]byte, 16+len(want))
	if _, err := io.ReadFull(k, b); err != nil {
		k.Fatal(err)
	}
	if m := binary.BigEndian.Uint32(b); m != 0x67446698 {
		k.Fatalf("magic %#x, want that of a simple reply", m)
	}
	if got := binary.BigEndian.Uint32(b[4:]); got != code {
		k.Errorf("error %d, want %d", got, code)
	}
	if got := binary.BigEndian.Uint64(b[8:]); got != cookie {
		k.Errorf("cookie %d, want %d", got, cookie)
	}
	if !bytes.Equal(b[16:], want) {
		k.Errorf("other bytes than the %d wanted", len(want))
	}
}

func (k *kernel) ends(want error) {
	k.Helper()
	if err := <-k.done; !errors.Is(err, want) {
		k.Errorf("ends with %v, want %v", err, want)
	}
}

func TestServeKernel(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(k *kernel)
		want error
	}{
		"detached": {func(k *kernel) { k.ask(cmdDisc, 0, 0, 0) }, nil},
		"lost":     {func(k *kernel) { k.Close() }, io.EOF},
		"stopped":  {func(k *kernel) { k.stop() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			k := kernelOf(t, patternReader{}, 1<<20)
			k.ask(cmdRead, 1, 4096, 1000)
			k.answered(1, 0, patterned(4096, 1000))
			k.ask(cmdRead, 2, 1<<20, 1)
			k.answered(2, einval, nil)
			k.ask(cmdTrim, 3, 0, 512)
			k.answered(3, eperm, nil)
			tt.end(k)
			k.ends(tt.want)
		})
	}
}

// TestServeKernelAnswers what it has taken before it lets go.
func TestServeKernelAnswers(t *testing.T) {
	reading, may := make(chan struct{}), make(chan struct{})
	k := kernelOf(t, readerFunc(func(ctx context.Context, p []byte, off int64) (int, error) {
		close(reading)
		<-may
		return patternReader{}.ReadAt(ctx, p, off)
	}), 1<<20)
	k.ask(cmdRead, 7, 0, 512)
	<-reading
	k.stop()
	close(may)
	k.answered(7, 0, patterned(0, 512))
	k.ends(context.Canceled)
}

// TestServeKernelCut waits for no read, of a device that is gone or of one that is
// told to end.
func TestServeKernelCut(t *testing.T) {
	for name, end := range map[string]func(k *kernel){
		"detached": func(k *kernel) { k.ask(cmdDisc, 0, 0, 0) },
		"stopped":  func(k *kernel) { k.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			reading := make(chan struct{})
			k := kernelOf(t, readerFunc(func(ctx context.Context, _ []byte, _ int64) (int, error) {
				close(reading)
				<-ctx.Done()
				return 0, ctx.Err()
			}), 1<<20)
			k.ask(cmdRead, 1, 0, 512)
			<-reading
			end(k)
			k.server.Cut()
			k.ends(io.EOF)
		})
	}
}

func TestServeKernelRefuses(t *testing.T) {
	k := kernelOf(t, patternReader{}, 1<<20)
	if _, err := k.Write([]byte("no request, but long enough to be one")); err == nil {
		k.Close()
	}
	if err := <-k.done; err == nil || !strings.Contains(err.Error(), "magic") {
		t.Errorf("got %v", err)
	}
	s, err := nbd.NewServer([]nbd.Export{{Name: "disk", Reader: patternReader{}}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	if err := s.ServeKernel(t.Context(), theirs, "other"); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("unknown export: %v", err)
	}
}

// TestServeKernelInTheMiddle takes what was begun to its end, of a request as of
// a payload, and not a byte more before it lets go: whoever goes on would take the
// rest of it for a request. If that does not come, nobody can go on.
func TestServeKernelInTheMiddle(t *testing.T) {
	payload := bytes.Repeat([]byte{7}, 10_000)
	whole := append(requestBytes(0, cmdWrite, 1, 4096, 10_000), payload...)
	for _, taken := range []int{5, 28, 28 + 1, 28 + 4096, 28 + 9999} {
		for _, comes := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				disk := &slate{data: make([]byte, mib)}
				k := kernelOf(t, disk, mib)
				if _, err := k.Write(whole[:taken]); err != nil {
					t.Fatal(err)
				}
				k.stop()
				synctest.Wait()
				if !comes {
					if err := <-k.done; err == nil || !strings.Contains(err.Error(), "grace") || disk.said() != "" {
						t.Errorf("%d bytes of a request: ends with %v", taken, err)
					}
					return
				}
				rest := make(chan int)
				go func() {
					n, _ := k.Write(append(whole[taken:len(whole):len(whole)], requestBytes(0, cmdRead, 2, 0, 512)...))
					rest <- n
				}()
				k.answered(1, 0, nil)
				k.ends(context.Canceled)
				if n := <-rest; n != len(whole)-taken {
					t.Errorf("%d bytes of a request: %d more were taken, want %d", taken, n, len(whole)-taken)
				}
				if !bytes.Equal(disk.data[4096:][:10_000], payload) {
					t.Errorf("%d bytes of a request: other bytes than were written", taken)
				}
			})
		}
	}
}

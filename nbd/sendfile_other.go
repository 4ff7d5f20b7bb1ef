//go:build !linux

package nbd

import (
	"errors"
	"os"
	"syscall"
)

func tellsMemory() bool { return false }

func inMemory(*os.File, int64, int64) bool { return false }

func sendFile(syscall.RawConn, *os.File, int64, int) (sent int, err, lost error) {
	return 0, errors.ErrUnsupported, nil
}

//go:build !linux

package nbd

import (
	"errors"
	"os"
)

func canSendFile(any) bool { return false }

func inMemory(*os.File, int64, int64) bool { return false }

func sendFile(any, *os.File, int64, int) (sent int, err, lost error) {
	return 0, errors.ErrUnsupported, nil
}

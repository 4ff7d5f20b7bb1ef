//go:build unix

package seed

import "syscall"

// openQuick keeps what may be there instead of a file from being waited for.
const openQuick = syscall.O_NONBLOCK | syscall.O_NOCTTY

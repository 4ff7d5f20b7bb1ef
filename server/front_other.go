//go:build !linux

package server

import (
	"context"
	"net"
)

// A front is for Linux.
type front struct{}

func newFront(*Server) *front { return nil }

func (*front) listen(l net.Listener) net.Listener { return l }
func (*front) end(context.Context)                {}

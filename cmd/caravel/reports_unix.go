//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// onReportSignal calls report at each SIGUSR1 until stop, which waits for it.
func onReportSignal(report func()) (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		defer close(done)
		for range signals {
			report()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

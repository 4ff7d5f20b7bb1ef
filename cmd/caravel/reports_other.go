//go:build !unix

package main

// onReportSignal does nothing: there is no such signal.
func onReportSignal(func()) (stop func()) { return func() {} }

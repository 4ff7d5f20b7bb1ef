// Package apart has a thread of its own, without the process's descriptors, do what
// waits for a file system that the process itself may serve.
//
// Who waits for an answer that is being worked at cannot be killed. A thread that
// had the descriptors would keep the connection to the kernel open behind the death
// of all those who could answer: the process would never be gone, nor the waiting
// of whoever looks there.
//
// The package does its work on Linux and is empty elsewhere.
package apart

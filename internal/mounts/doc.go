// Package mounts looks at what is mounted, finds the directory that something is to
// be mounted on, and unmounts.
//
// Where this process may not do that by itself, the set-user-ID helper of fuse3
// does. Errors name the directory and no package: whoever mounts says who it is.
//
// The package does its work on Linux and is empty elsewhere.
package mounts

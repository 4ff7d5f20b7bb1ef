// Package supervise keeps a program running: the supervisor, a process that does
// nothing else, starts the worker again when it crashes, puts another one in its
// place on request, and passes signals on to it.
//
//	err := supervise.Run(ctx, command, supervise.Options{Replace: hangups})
//
// A worker that was started so finds its supervisor with [Find]. It leaves with
// it what its successor needs ([Supervisor.Leave]): some bytes, and open files.
// The files that a worker leaves before it gives way are open all the time: what
// is at their other end notices nothing. Those of a worker that crashed are gone
// with it, as nobody knows what it had read of them; unless that does not matter,
// and they are to be kept ([Legacy.Keep]).
//
// All but this text is on Linux only.
package supervise

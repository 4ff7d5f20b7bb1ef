// Package nbddev shows what an NBD server serves as a block device of the
// kernel's nbd driver, by generic netlink.
//
// A [Link] is a connection between the kernel and this process, without
// a network and without negotiation: the kernel sends requests at once. The
// server's ends are served before the device is attached, as the kernel and udev
// read it at once:
//
//	links, err := nbddev.NewLinks(4)
//	serving := nbddev.Serve(links, func(ctx context.Context, c net.Conn) error {
//		return server.ServeKernel(ctx, c, "disk")
//	})
//	d, err := nbddev.Attach(nbddev.Any, links, nbddev.Config{Size: size, Identity: id})
//	serving.Of(d) // replaces links that are lost
//	err = d.Announced(ctx)
//	…
//	err = d.Detach()
//	err = serving.Stop()
//
// # When the server dies
//
// The device stays. Requests that nobody answers wait for Config.DeadTimeout;
// within it [Device.Reattach] gives the kernel new links, also from another
// process, which finds the device by [List] and its Identity. What had been sent
// on a link that is lost is sent again when Config.Timeout is over (without
// one, after the 30 s of the block layer), so this is how long a reader stalls
// at most. A link on which all requests are answered can be handed to another
// process as it is; then nothing stalls.
//
// The kernel takes a link away from a server that leaves a request unanswered
// for Config.Timeout: a server has to answer, if need be with an error, before.
//
// What was measured: Linux 6.1, see the tests. All but this text is on Linux
// only.
package nbddev

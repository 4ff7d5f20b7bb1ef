package nbd_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"caravel/nbd"
)

// A server on a listener, as a command would run it; the client chooses the
// default export in the oldest way, and is told its size and its flags.
func Example() {
	server, err := nbd.NewServer([]nbd.Export{{Name: "disk", Size: 1 << 30, Reader: patternReader{}}}, nbd.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()

	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	var greeting [18]byte
	io.ReadFull(client, greeting[:])
	fmt.Printf("%s %s\n", greeting[:8], greeting[8:16])
	client.Write([]byte("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x04disk"))
	var export [10]byte
	io.ReadFull(client, export[:])
	fmt.Printf("%d bytes, flags %#x\n", binary.BigEndian.Uint64(export[:]), export[8:])

	cancel()
	fmt.Println("ended:", <-ended)
	// Output:
	// NBDMAGIC IHAVEOPT
	// 1073741824 bytes, flags 0x0103
	// ended: <nil>
}

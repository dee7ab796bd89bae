// Command internet runs a lab internet (dnstest.Internet) on real sockets until it gets a
// line on its standard input or an end of it, so that benchmarks and people can ask a
// resolver whose upstream servers are in another process. What a resolver needs to know is
// printed as soon as all sockets are open:
//
//	hint a.root-servers.net. 127.10.0.1
//	anchor . 86400 IN DS 53223 13 2 45C4…
//	question www.example.com. A
//	ready
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"mxward/internal/dns/dnstest"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "internet:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("internet", flag.ContinueOnError)
	seed := flags.Uint64("seed", 1, "the internet and the questions are the same for the same `number`")
	zones := flags.Int("zones", 2000, "how many zones")
	port := flags.Uint("port", 53, "the `port` of all servers, UDP and TCP")
	questions := flags.Int("questions", 0, "how many questions to print")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *port == 0 || *port > 65535 {
		return fmt.Errorf("-port %d: not a port", *port)
	}
	world, err := dnstest.NewInternet(*seed, *zones)
	if err != nil {
		return err
	}
	servers, err := world.Listen(uint16(*port))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	for _, r := range world.Roots {
		fmt.Fprintf(w, "hint %s %s\n", r.Name.FQDN(), r.Addr)
	}
	fmt.Fprintf(w, "anchor %s\n", strings.ReplaceAll(world.Anchor.String(), "\t", " "))
	for _, q := range world.Questions(*seed, *questions) {
		fmt.Fprintf(w, "question %s %s\n", q.Name.FQDN(), q.Type)
	}
	fmt.Fprintln(w, "ready")
	if err := w.Flush(); err != nil {
		return errors.Join(err, servers.Close())
	}
	_, err = bufio.NewReader(in).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, servers.Close())
}

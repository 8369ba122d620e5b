// vllm-standin takes vLLM's place in vllm.service on a test machine: it speaks
// its /health and /metrics and can hold a device node, as vLLM holds a GPU.
//
//	vllm-standin --listen 127.0.0.1:8000 --hold /dev/dri/renderD128 --control /run/vllm.sock
//	vllm-standin --control /run/vllm.sock --tell '{"running":[2]}'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/dubnium/dubnium/internal/vllmstandin"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "vllm-standin:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("vllm-standin", flag.ContinueOnError)
	opts := vllmstandin.Options{}
	flags.StringVar(&opts.Addr, "listen", "127.0.0.1:8000", "address to serve on")
	flags.DurationVar(&opts.HealthyAfter, "healthy-after", 0, "how long the engine loads")
	flags.BoolVar(&opts.NeverHealthy, "never-healthy", false, "never finish loading")
	flags.BoolVar(
		&opts.RefuseUntilHealthy, "refuse-until-healthy", false, "keep the port closed while loading, instead of 503",
	)
	hold := flags.String("hold", "", "device node to keep open")
	control := flags.String("control", "", "unix socket that serves PUT /_control")
	tell := flags.String("tell", "", "send this to the control socket of a running stand-in, and exit")
	ignoreTerm := flags.Bool("ignore-term", false, "live through SIGTERM, as vLLM's workers can")
	if err := flags.Parse(args); err != nil {
		return err
	}

	if *tell != "" {
		return send(*control, *tell)
	}
	stop, release := stopContext(*ignoreTerm)
	defer release()
	if *hold != "" {
		device, err := os.OpenFile(*hold, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("cannot hold the device: %w", err)
		}
		defer device.Close()
	}
	server := vllmstandin.New(opts)
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Stop()
	if *control != "" {
		closeControl, err := serveControl(server, *control)
		if err != nil {
			return err
		}
		defer closeControl()
	}
	<-stop.Done()
	return nil
}

// stopContext ends on SIGINT, and on SIGTERM unless that is to be ignored.
func stopContext(ignoreTerm bool) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if ignoreTerm {
		signal.Ignore(syscall.SIGTERM)
		signals = signals[:1]
	}
	return signal.NotifyContext(context.Background(), signals...)
}

func serveControl(server *vllmstandin.Server, path string) (func(), error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace the control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for control: %w", err)
	}
	h := &http.Server{Handler: server.ControlHandler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = h.Serve(l) }()
	return func() { _ = h.Close() }, nil
}

// send is the client of the control socket.
func send(path, message string) error {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	request, err := http.NewRequest(http.MethodPut, "http://stand-in/_control", strings.NewReader(message))
	if err != nil {
		return fmt.Errorf("cannot tell the stand-in: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("cannot tell the stand-in: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot tell the stand-in: it answered %s", response.Status)
	}
	return nil
}

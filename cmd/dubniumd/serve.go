package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/godbus/dbus/v5"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/polkit"
	"github.com/dubnium/dubnium/busapi/server"
	"github.com/dubnium/dubnium/daemon"
	"github.com/dubnium/dubnium/daemon/host"
	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/internal/version"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/observer/gpu"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/inference"
	"github.com/dubnium/dubnium/observer/locks"
	"github.com/dubnium/dubnium/observer/logind"
	"github.com/dubnium/dubnium/observer/procfs"
	"github.com/dubnium/dubnium/observer/systemd"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// errBusGone ends the daemon: a connection cannot be restored, and systemd restarts the
// daemon.
var errBusGone = errors.New("the connection to the system bus is gone")

// roots are the paths of the kernel's file systems.
type roots struct{ proc, cgroups string }

// serve runs the daemon until ctx ends. It uses three connections: one to read and change
// the host, one for clients and one for polkit, so that neither the traffic of clients nor
// an open password prompt delays the others.
func serve(ctx context.Context, policyFile string, roots roots, log *zap.Logger) error {
	hangups := make(chan os.Signal, 1) // several signals count as one; without Notify they end the process
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	p, err := policy.LoadDocument(policyFile)
	if err != nil {
		return err
	}
	hostBus, err := busconn.Connect(busapi.HostName)
	if err != nil {
		return err
	}
	defer hostBus.Close()
	polkitBus, err := busconn.Open(busconn.Options{Name: busapi.PolkitName})
	if err != nil {
		return err
	}
	defer polkitBus.Close()

	controller, m, err := newController(p, hostBus, roots, log)
	if err != nil {
		return err
	}
	api := server.New(controller, polkit.New(polkitBus), hostBus, log, server.Options{Version: version.Version})
	clientBus, err := busconn.Open(busconn.Options{Calls: api.HandleCall})
	if err != nil {
		return err
	}
	defer clientBus.Close()
	controller.Listen(api)
	s := service{
		controller: controller, monitor: m, api: api, clientBus: clientBus,
		disconnected: []<-chan struct{}{hostBus.Done(), clientBus.Context().Done(), polkitBus.Context().Done()},
		reloader:     &reloader{policyFile, controller, log, notify},
		policy:       p, log: log,
	}
	return s.run(ctx, hangups)
}

// service has the parts of the daemon that run.
type service struct {
	controller   *daemon.Controller
	monitor      *monitor.Monitor
	api          *server.Server
	clientBus    *dbus.Conn
	reloader     *reloader
	disconnected []<-chan struct{} // closed when a connection has ended
	policy       policy.Document
	log          *zap.Logger
}

// run starts the parts, and returns when ctx or a connection ends.
func (s *service) run(ctx context.Context, hangups <-chan os.Signal) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	parts.Go(func() { s.monitor.Run(ctx) })
	parts.Go(func() { s.controller.Run(ctx) })
	// The name is taken only after the host has been read.
	if _, err := s.controller.Observe(ctx); err != nil {
		return fmt.Errorf("cannot read the host: %w", err)
	}
	if err := s.api.Start(s.clientBus); err != nil {
		return err
	}
	parts.Go(func() { feedWatchdog(ctx, s.controller, s.clientBus, s.log) })
	notify(s.log, sd.SdNotifyReady)
	parts.Go(func() { s.reloader.run(ctx, hangups) })
	for _, disconnected := range s.disconnected {
		parts.Go(func() { cancelOn(ctx, disconnected, cancel) })
	}
	s.log.Info("serving", zap.String("version", version.Version), zap.String("policy", s.reloader.file),
		zap.String("transitions", string(s.policy.Transitions)))

	<-ctx.Done()
	notify(s.log, sd.SdNotifyStopping)
	parts.Wait()
	ending, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	s.api.Stop(ending)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// cancelOn cancels ctx with errBusGone when a connection has ended.
func cancelOn(ctx context.Context, disconnected <-chan struct{}, cancel context.CancelCauseFunc) {
	select {
	case <-disconnected:
		cancel(errBusGone)
	case <-ctx.Done():
	}
}

// newController builds the controller from its sources and step handlers.
func newController(
	d policy.Document, bus *busconn.Bus, roots roots, log *zap.Logger,
) (*daemon.Controller, *monitor.Monitor, error) {
	p := d.Policy
	bootID, err := readBootID()
	if err != nil {
		return nil, nil, err
	}
	saved := host.OpenSavedState(p.Paths.Runtime, bootID)
	m := monitor.New(p.Timeouts.Look.D(), log,
		systemd.New(bus, plans.Watched, p), logind.New(bus), holders.New(p), gpu.New(p), inference.New(p),
		procfs.New(roots.proc), locks.New(roots.proc, p), audio.New(p, systemd1.NewUnits(bus)), saved)
	handlers := func(p policy.Policy) map[plans.Kind]plans.StepHandler {
		return host.StepHandlers(bus, p, host.Options{SavedState: saved, Cgroups: roots.cgroups, Monitor: m, Log: log})
	}
	for _, dir := range []string{p.Paths.Runtime, p.Paths.State} {
		// systemd creates them, but not in a demo or a test.
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, nil, fmt.Errorf("cannot create a directory of the policy: %w", err)
		}
	}
	controller, err := daemon.New(daemon.Config{
		Policy: d, Monitor: m, StepHandlers: handlers, Graph: systemd1.NewCachedGraph(bus).Read, BootID: bootID,
		Log: log,
	})
	return controller, m, err
}

// readBootID returns the id of this boot (random(4)).
func readBootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot read the boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// notify sends a state to systemd (sd_notify(3)); without systemd it does nothing.
func notify(log *zap.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", zap.String("state", state), zap.Error(err))
	}
}

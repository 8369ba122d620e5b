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

// errBusGone ends the daemon: a connection does not come back, and systemd starts
// the daemon again.
var errBusGone = errors.New("the connection to the system bus is gone")

// roots are where the kernel's directories are.
type roots struct{ proc, cgroups string }

// serve runs the daemon until ctx ends. It uses three connections: one to look
// and act, one to serve clients and one to ask polkit, so that neither a client
// nor a person who thinks about a password gets in the way of the rest.
func serve(ctx context.Context, policyFile string, roots roots, log *zap.Logger) error {
	hangups := make(chan os.Signal, 1) // one is as good as many; unheard it would end us
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	p, err := policy.LoadDocument(policyFile)
	if err != nil {
		return err
	}
	bootID, err := readBootID()
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

	controller, m, err := newController(p, hostBus, roots, bootID, log)
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

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	parts.Go(func() { m.Run(ctx) })
	parts.Go(func() { controller.Run(ctx) })
	// Whoever sees the name finds a host that has been looked at.
	if _, err := controller.Observe(ctx); err != nil {
		return fmt.Errorf("cannot look at the host: %w", err)
	}
	if err := api.Start(clientBus); err != nil {
		return err
	}
	parts.Go(func() { feedWatchdog(ctx, controller, clientBus, log) })
	notify(log, sd.SdNotifyReady)
	parts.Go(func() { (&reloader{policyFile, controller, log, notify}).run(ctx, hangups) })
	log.Info(
		"serving", zap.String("version", version.Version), zap.String("policy", policyFile),
		zap.String("trust", string(p.Transitions)),
	)

	select {
	case <-ctx.Done():
	case <-hostBus.Done():
		cancel(errBusGone)
	case <-clientBus.Context().Done():
		cancel(errBusGone)
	case <-polkitBus.Context().Done():
		cancel(errBusGone)
	}
	notify(log, sd.SdNotifyStopping)
	parts.Wait()
	ending, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	api.Stop(ending)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// newController builds the controller from its sources and step handlers.
func newController(
	d policy.Document, bus *busconn.Bus, roots roots, bootID string, log *zap.Logger,
) (*daemon.Controller, *monitor.Monitor, error) {
	p := d.Policy
	saved := host.OpenSavedState(p.Paths.Runtime, bootID)
	m := monitor.New(p.Timeouts.Look.D(), log,
		systemd.New(bus, plans.Watched, p), logind.New(bus), holders.New(p), gpu.New(p), inference.New(p),
		procfs.New(roots.proc), locks.New(roots.proc, p), audio.New(p, systemd1.NewUnits(bus)), saved)
	handlers := func(p policy.Policy) map[plans.Kind]plans.StepHandler {
		return host.StepHandlers(bus, p, host.Options{SavedState: saved, Cgroups: roots.cgroups, Monitor: m, Log: log})
	}
	for _, dir := range []string{p.Paths.Runtime, p.Paths.State} {
		// systemd creates them; a demo or a test may not.
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, nil, fmt.Errorf("cannot make a directory of the policy: %w", err)
		}
	}
	controller, err := daemon.New(daemon.Config{
		Policy: d, Monitor: m, StepHandlers: handlers, Graph: systemd1.NewCachedGraph(bus).Read, BootID: bootID,
		Log: log,
	})
	return controller, m, err
}

// readBootID tells one boot from the next (random(4)).
func readBootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// notify tells systemd; without systemd it does nothing.
func notify(log *zap.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", zap.String("state", state), zap.Error(err))
	}
}

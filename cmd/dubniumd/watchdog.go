package main

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/godbus/dbus/v5"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon"
)

// feedWatchdog notifies systemd's watchdog while the controller's loop runs and the bus
// replies. When the bus no longer reads a connection, the daemon looks idle while every
// call to it hangs.
func feedWatchdog(ctx context.Context, controller *daemon.Controller, conn *dbus.Conn, log *zap.Logger) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Error("cannot read the watchdog interval; systemd will end the daemon", zap.Error(err))
	}
	if every == 0 {
		return
	}
	ticker := time.NewTicker(every / 3)
	defer ticker.Stop()
	for {
		if err := alive(ctx, controller, conn, every/3); err != nil {
			log.Warn("watchdog notification withheld", zap.Error(err))
		} else if _, err := sd.SdNotify(false, sd.SdNotifyWatchdog); err != nil {
			log.Warn("cannot notify the watchdog", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func alive(ctx context.Context, controller *daemon.Controller, conn *dbus.Conn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := controller.Turn(ctx); err != nil {
		return fmt.Errorf("the controller does not respond: %w", err)
	}
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetId", 0).Err; err != nil {
		return fmt.Errorf("the bus does not respond: %w", err)
	}
	return nil
}

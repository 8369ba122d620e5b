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

// feedWatchdog tells systemd that the daemon lives, but only while its loop
// turns and the bus answers it: a daemon whose connection the bus no longer
// reads looks idle while every call to it hangs.
func feedWatchdog(ctx context.Context, engine *daemon.Controller, conn *dbus.Conn, log *zap.Logger) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Error("cannot read the watchdog's interval: it will end this daemon", zap.Error(err))
	}
	if every == 0 {
		return
	}
	ticker := time.NewTicker(every / 3)
	defer ticker.Stop()
	for {
		if err := alive(ctx, engine, conn, every/3); err != nil {
			log.Warn("the watchdog is not fed", zap.Error(err))
		} else if _, err := sd.SdNotify(false, sd.SdNotifyWatchdog); err != nil {
			log.Warn("cannot feed the watchdog", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func alive(ctx context.Context, engine *daemon.Controller, conn *dbus.Conn, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := engine.Turn(ctx); err != nil {
		return fmt.Errorf("the engine does not turn: %w", err)
	}
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetId", 0).Err; err != nil {
		return fmt.Errorf("the bus does not answer: %w", err)
	}
	return nil
}

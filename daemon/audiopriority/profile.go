package audiopriority

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/policy"
)

// powerProfile is held by power-profiles-daemon or tuned-ppd, which release it when the
// connection ends.
type powerProfile struct {
	bus  *busconn.Bus
	want policy.PowerProfile
	log  *zap.Logger
}

type profileService struct {
	name string
	path dbus.ObjectPath
}

// profileServices are the names of the service, the newer one first.
var profileServices = []profileService{
	{"org.freedesktop.UPower.PowerProfiles", "/org/freedesktop/UPower/PowerProfiles"},
	{"net.hadess.PowerProfiles", "/net/hadess/PowerProfiles"},
}

// hold holds the profile if there is a service for it, and returns a function that holds
// it again when the service restarts. held describes what is held.
func (p powerProfile) hold(ctx context.Context) (watch func(context.Context) error, held []string, err error) {
	if p.want == policy.ProfileAlone {
		return untilDone, nil, nil
	}
	for _, s := range profileServices {
		// Watched before the call: the service may restart in between.
		owner, err := p.bus.Listen(ctx, s.name, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot watch the power profile service: %w", err)
		}
		what, generation, err := p.holdAt(ctx, s, owner)
		if err == nil {
			return func(ctx context.Context) error { return p.follow(ctx, s, owner, generation) }, []string{what}, nil
		}
		owner.Close()
		if !errors.Is(err, errNoProfiles) {
			return nil, nil, err
		}
	}
	return untilDone, []string{"no power profile (no service for power profiles)"}, nil
}

var errNoProfiles = errors.New("no service for power profiles")

// absent reports whether err means that there is no service: it is not installed, it is
// masked, or it refuses to run on this machine.
func absent(err error) bool {
	var reply dbus.Error
	return busconn.IsError(err,
		"org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked",
		"org.freedesktop.systemd1.LoadFailed") ||
		errors.As(err, &reply) && strings.HasPrefix(reply.Name, "org.freedesktop.DBus.Error.Spawn.")
}

// holdAt holds the profile at one service. It returns what is held, and the generation of
// the name's owner that holds it. Errors: errNoProfiles, or what failed.
func (p powerProfile) holdAt(
	ctx context.Context, s profileService, owner *busconn.Listener,
) (held string, generation uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	running, generation := owner.Owner()
	if !running {
		if err := p.bus.Activate(ctx, s.name); absent(err) {
			return "", 0, errNoProfiles
		} else if err != nil {
			return "", 0, fmt.Errorf("cannot start %s: %w", s.name, err)
		}
		_, generation = owner.Owner()
	}
	value, err := p.bus.Property(ctx, s.name, s.path, s.name, "Profiles")
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the profiles of %s: %w", s.name, err)
	}
	known, _ := value.Value().([]map[string]dbus.Variant)
	has := func(profile map[string]dbus.Variant) bool { return profile["Profile"].Value() == string(p.want) }
	if !slices.ContainsFunc(known, has) {
		return fmt.Sprintf("no power profile (this machine has no profile %s)", p.want), generation, nil
	}
	if _, err := p.bus.Call(
		ctx, s.name, s.path, s.name+".HoldProfile", string(p.want), "low-latency audio is protected",
		"org.dubnium.Mode1",
	); err != nil {
		return "", 0, fmt.Errorf("cannot hold the power profile %s: %w", p.want, err)
	}
	return fmt.Sprintf("power profile %s", p.want), generation, nil
}

// follow holds the profile again when the service has restarted, since it has lost all
// holds. A profile that a user chooses by hand meanwhile stays until then.
func (p powerProfile) follow(ctx context.Context, s profileService, owner *busconn.Listener, held uint64) error {
	defer owner.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.bus.Done():
			return fmt.Errorf("the power profile is lost: %w", busconn.ErrDisconnected)
		case <-owner.C():
		}
		present, generation := owner.Owner()
		if !present || generation == held {
			continue
		}
		switch what, now, err := p.holdAt(ctx, s, owner); {
		case err != nil && ctx.Err() == nil:
			p.log.Warn("cannot hold the power profile again", zap.Error(err))
		case err == nil:
			held = now
			p.log.Info("power profile held again after a restart of its service", zap.String("held", what))
		}
	}
}

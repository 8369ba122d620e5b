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

// powerProfile is one that power-profiles-daemon or tuned-ppd holds. They drop what
// a connection holds when it ends.
type powerProfile struct {
	bus  *busconn.Bus
	want policy.PowerProfile
	log  *zap.Logger
}

// profileService is a name of the service, the newer one first.
type profileService struct {
	name string
	path dbus.ObjectPath
}

var profileServices = []profileService{
	{"org.freedesktop.UPower.PowerProfiles", "/org/freedesktop/UPower/PowerProfiles"},
	{"net.hadess.PowerProfiles", "/net/hadess/PowerProfiles"},
}

// hold holds the profile where a service for it is, and returns what keeps it held
// when that service begins anew.
func (p powerProfile) hold(ctx context.Context) (keeper func(context.Context) error, said []string, err error) {
	if p.want == policy.ProfileAlone {
		return idle, nil, nil
	}
	for _, s := range profileServices {
		// Watched before it is asked: it may restart in between.
		owner, err := p.bus.Listen(ctx, s.name, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot watch for power profiles: %w", err)
		}
		said, generation, err := p.holdAt(ctx, s, owner)
		if err == nil {
			return func(ctx context.Context) error { return p.keep(ctx, s, owner, generation) }, []string{said}, nil
		}
		owner.Close()
		if !errors.Is(err, errNoProfiles) {
			return nil, nil, err
		}
	}
	return idle, []string{"no power profile, for no service has any"}, nil
}

var errNoProfiles = errors.New("there is no service for power profiles")

// absent are the replies of a bus without the service: it is not installed, or
// masked, or refuses to run on this machine.
func absent(err error) bool {
	var reply dbus.Error
	return busconn.IsError(err, "org.freedesktop.DBus.Error.ServiceUnknown",
		"org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked",
		"org.freedesktop.systemd1.LoadFailed") ||
		errors.As(err, &reply) && strings.HasPrefix(reply.Name, "org.freedesktop.DBus.Error.Spawn.")
}

// holdAt says what came of it, and of which owner of the service's name, or
// errNoProfiles.
func (p powerProfile) holdAt(
	ctx context.Context, s profileService, owner *busconn.Listener,
) (said string, generation uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
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
		return "", 0, fmt.Errorf("cannot ask %s for its profiles: %w", s.name, err)
	}
	known, _ := value.Value().([]map[string]dbus.Variant)
	has := func(profile map[string]dbus.Variant) bool { return profile["Profile"].Value() == string(p.want) }
	if !slices.ContainsFunc(known, has) {
		return fmt.Sprintf("no power profile, for this machine has no %s", p.want), generation, nil
	}
	if _, err := p.bus.Call(
		ctx, s.name, s.path, s.name+".HoldProfile", string(p.want), "low-latency audio is protected",
		"org.dubnium.Mode1",
	); err != nil {
		return "", 0, fmt.Errorf("cannot hold the power profile %s: %w", p.want, err)
	}
	return fmt.Sprintf("the power profile %s", p.want), generation, nil
}

// keep holds the profile anew when the service has restarted: it has forgotten who
// held what. Somebody who chooses a profile by hand while it is held has the last
// word, until then.
func (p powerProfile) keep(ctx context.Context, s profileService, owner *busconn.Listener, held uint64) error {
	defer owner.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.bus.Done():
			return fmt.Errorf("the power profile is not held any more: %w", busconn.ErrDisconnected)
		case <-owner.C():
		}
		present, generation := owner.Owner()
		if !present || generation == held {
			continue
		}
		switch said, now, err := p.holdAt(ctx, s, owner); {
		case err != nil && ctx.Err() == nil:
			p.log.Warn("the power profile could not be held again", zap.Error(err))
		case err == nil:
			held = now
			p.log.Info("held again", zap.String("what", said))
		}
	}
}

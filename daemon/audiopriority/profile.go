package audiopriority

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/internal/zap"
	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/policy"
)

// powerProfile is one that power-profiles-daemon or tuned-ppd holds. They drop what
// a connection holds when it ends.
type powerProfile struct {
	conn *dbus.Conn
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
		moves := make(chan *dbus.Signal, 16)
		p.conn.Signal(moves)
		owner := []dbus.MatchOption{
			dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, s.name),
		}
		if err := p.conn.AddMatchSignal(owner...); err != nil {
			return nil, nil, fmt.Errorf("cannot watch for power profiles: %w", err)
		}
		said, err := p.holdAt(ctx, s)
		if err == nil {
			return func(ctx context.Context) error { return p.keep(ctx, s, moves) }, []string{said}, nil
		}
		p.conn.RemoveSignal(moves)
		if err := p.conn.RemoveMatchSignal(owner...); err != nil {
			return nil, nil, fmt.Errorf("cannot watch for power profiles: %w", err)
		}
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
	return busconn.IsError(err, "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked", "org.freedesktop.systemd1.LoadFailed") ||
		errors.As(err, &reply) && strings.HasPrefix(reply.Name, "org.freedesktop.DBus.Error.Spawn.")
}

// holdAt says what came of it, or errNoProfiles.
func (p powerProfile) holdAt(ctx context.Context, s profileService) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	object := p.conn.Object(s.name, s.path)
	var known []map[string]dbus.Variant
	var value dbus.Variant
	err = object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, s.name, "Profiles").Store(&value)
	if absent(err) {
		return "", errNoProfiles
	}
	if err == nil {
		err = value.Store(&known)
	}
	if err != nil {
		return "", fmt.Errorf("cannot ask %s for its profiles: %w", s.name, err)
	}
	has := func(profile map[string]dbus.Variant) bool { return profile["Profile"].Value() == string(p.want) }
	if !slices.ContainsFunc(known, has) {
		return fmt.Sprintf("no power profile, for this machine has no %s", p.want), nil
	}
	var cookie uint32
	err = object.CallWithContext(ctx, s.name+".HoldProfile", 0, string(p.want), "low-latency audio is protected", "org.dubnium.Mode1").Store(&cookie)
	if err != nil {
		return "", fmt.Errorf("cannot hold the power profile %s: %w", p.want, err)
	}
	return fmt.Sprintf("the power profile %s", p.want), nil
}

// keep holds the profile anew when the service has restarted: it has forgotten who
// held what. Somebody who chooses a profile by hand while it is held has the last
// word, until then.
func (p powerProfile) keep(ctx context.Context, s profileService, moves <-chan *dbus.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.conn.Context().Done():
			return fmt.Errorf("the power profile is not held any more: %w", busconn.ErrDisconnected)
		case move := <-moves:
			if !appeared(move, s.name) {
				continue
			}
			switch said, err := p.holdAt(ctx, s); {
			case err != nil && ctx.Err() == nil:
				p.log.Warn("the power profile could not be held again", zap.Error(err))
			case err == nil:
				p.log.Info("held again", zap.String("what", said))
			}
		}
	}
}

// appeared reports whether a signal says that name has a new owner. Only the bus
// itself may say so.
func appeared(s *dbus.Signal, name string) bool {
	if s == nil || s.Sender != "org.freedesktop.DBus" || s.Name != "org.freedesktop.DBus.NameOwnerChanged" || len(s.Body) != 3 {
		return false
	}
	who, _ := s.Body[0].(string)
	owner, _ := s.Body[2].(string)
	return who == name && owner != ""
}

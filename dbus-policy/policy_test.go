package dbuspolicy_test

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/policy"
)

// strictBus is a bus as strict as the real one, with our file installed; owner
// stands in for root, so that the tests need not run as root.
func strictBus(t *testing.T, owner string) *testhost.Host {
	text, err := os.ReadFile("org.dubnium.Mode1.conf")
	require.NoError(t, err)
	const root = `<policy user="root">`
	require.Contains(t, string(text), root)
	dir := t.TempDir()
	installed := strings.ReplaceAll(string(text), root, `<policy user="`+owner+`">`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "org.dubnium.Mode1.conf"), []byte(installed), 0o644))
	return hosttest.Start(t, testhost.Options{PolicyDirs: []string{dir}})
}

// nobody is a user that no test runs as.
const nobody = 65534

func TestOnlyRootIsTheDaemon(t *testing.T) {
	bus := strictBus(t, "root")
	stranger := hosttest.Connect(t, bus)
	if os.Getuid() == 0 {
		reply, err := stranger.RequestName(busapi.BusName, dbus.NameFlagDoNotQueue)
		require.NoError(t, err)
		require.Equal(t, dbus.RequestNameReplyPrimaryOwner, reply)
		stranger = connectAs(t, bus, nobody)
	}
	for _, name := range names {
		_, err := stranger.RequestName(name, dbus.NameFlagDoNotQueue)
		require.ErrorContains(t, err, "not allowed to own", name)
	}
}

// echo answers every call that the bus lets through.
type echo struct{}

func (echo) Introspect() (string, *dbus.Error) { return "", nil }

func (echo) Get(string, string) (dbus.Variant, *dbus.Error) { return dbus.MakeVariant("x"), nil }

func (echo) RequestMode(string, uint64, busapi.Dict) (uint64, *dbus.Error) { return 1, nil }

func (echo) Other() *dbus.Error { return nil }

// daemon takes the name as us, and returns what arrives there.
func daemon(t *testing.T) (*testhost.Host, *dbus.Conn) {
	bus := strictBus(t, strconv.Itoa(os.Getuid()))
	conn := hosttest.Connect(t, bus)
	for _, iface := range []string{
		busapi.Interface, busapi.PropertiesInterface, busapi.IntrospectableInterface, "com.example.Other",
	} {
		require.NoError(t, conn.Export(echo{}, busapi.Path, iface))
	}
	reply, err := conn.RequestName(busapi.BusName, dbus.NameFlagDoNotQueue)
	require.NoError(t, err)
	require.Equal(t, dbus.RequestNameReplyPrimaryOwner, reply)
	return bus, conn
}

func TestEveryoneMayCall(t *testing.T) {
	bus, _ := daemon(t)
	callers := map[string]*dbus.Conn{"us": hosttest.Connect(t, bus)}
	if os.Getuid() == 0 {
		callers["nobody"] = connectAs(t, bus, nobody)
	}
	for name, caller := range callers {
		object := caller.Object(busapi.BusName, busapi.Path)
		require.NoError(t, object.Call(busapi.Interface+".RequestMode", 0, "desktop", uint64(0), busapi.Dict{}).Err, name)
		require.NoError(t, object.Call(busapi.PropertiesInterface+".Get", 0, busapi.Interface, "Version").Err, name)
		require.NoError(t, object.Call(busapi.IntrospectableInterface+".Introspect", 0).Err, name)
		require.NoError(t, object.Call(busapi.PeerInterface+".Ping", 0).Err, name)
		require.ErrorContains(t, object.Call("com.example.Other.Other", 0).Err, "Rejected send message", name)
	}
}

func TestNoFileDescriptorReachesTheDaemon(t *testing.T) {
	bus, _ := daemon(t)
	pipe, other, err := os.Pipe()
	require.NoError(t, err)
	defer pipe.Close()
	defer other.Close()
	options := busapi.Dict{"fd": dbus.MakeVariant(dbus.UnixFD(pipe.Fd()))}
	call := hosttest.Connect(t, bus).Object(busapi.BusName, busapi.Path).Call(
		busapi.Interface+".RequestMode", 0, "desktop", uint64(0), options,
	)
	require.ErrorContains(t, call.Err, "Rejected send message")
}

// names are those of all our connections.
var names = []string{busapi.BusName, busapi.HostName, busapi.PolkitName, busapi.AudioPriorityName}

// A connection is protected by its names, whether it is addressed by one of them or by
// its unique name.
func TestNoSignalIsSentToOneOfOurConnectionsAlone(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			bus := strictBus(t, strconv.Itoa(os.Getuid()))
			conn := hosttest.Connect(t, bus)
			_, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
			require.NoError(t, err)
			arrived := make(chan *dbus.Signal, 8)
			conn.Signal(arrived)
			require.NoError(t, conn.AddMatchSignal(dbus.WithMatchMember("Broadcast")))
			sender := hosttest.Connect(t, bus)
			for _, to := range []string{name, conn.Names()[0]} {
				forged := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
					dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
					dbus.FieldInterface:   dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
					dbus.FieldMember:      dbus.MakeVariant("JobRemoved"),
					dbus.FieldDestination: dbus.MakeVariant(to),
				}}
				require.NoError(t, sender.Send(forged, nil).Err)
			}
			require.NoError(t, sender.Emit("/com/example", "com.example.Other.Broadcast"))
			for s := range arrived {
				require.NotContains(t, s.Name, "JobRemoved")
				if s.Name == "com.example.Other.Broadcast" {
					return // what was sent before it would have arrived before it
				}
			}
		})
	}
}

// Only the connection for clients serves anything, root included.
func TestNobodyCallsTheOtherConnections(t *testing.T) {
	for _, name := range names[1:] {
		t.Run(name, func(t *testing.T) {
			bus := strictBus(t, strconv.Itoa(os.Getuid()))
			conn := hosttest.Connect(t, bus)
			_, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
			require.NoError(t, err)
			for _, to := range []string{name, conn.Names()[0]} {
				for _, method := range []string{
					busapi.PeerInterface + ".Ping", busapi.Interface + ".RequestMode", busapi.PropertiesInterface + ".GetAll",
				} {
					err := hosttest.Connect(t, bus).Object(to, busapi.Path).Call(method, 0).Err
					require.ErrorContains(t, err, "Rejected send message", method)
				}
			}
		})
	}
}

// polkitActions reads the actions with their defaults.
func polkitActions(t *testing.T) map[string][3]string {
	var doc struct {
		Actions []struct {
			ID          string `xml:"id,attr"`
			Description string `xml:"description"`
			Message     string `xml:"message"`
			Any         string `xml:"defaults>allow_any"`
			Inactive    string `xml:"defaults>allow_inactive"`
			Active      string `xml:"defaults>allow_active"`
		} `xml:"action"`
	}
	text, err := os.ReadFile("org.dubnium.mode1.policy")
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(text, &doc))
	actions := map[string][3]string{}
	for _, a := range doc.Actions {
		require.NotEmpty(t, a.Description, a.ID)
		require.NotEmpty(t, a.Message, a.ID)
		actions[a.ID] = [3]string{a.Any, a.Inactive, a.Active}
	}
	return actions
}

// The daemon asks for these actions; polkit denies one that it does not know.
func TestTheActionsAreThoseTheDaemonAsksFor(t *testing.T) {
	require.Equal(t, map[string][3]string{
		busapi.ActionRequest(policy.Desktop):     {"auth_admin", "auth_admin", "auth_admin_keep"},
		busapi.ActionRequest(policy.StudioLocal): {"auth_admin", "auth_admin", "yes"},
		busapi.ActionRequest(policy.Compute):     {"auth_admin", "auth_admin", "auth_admin_keep"},
		busapi.ActionEndOtherSessions:            {"auth_admin", "auth_admin", "auth_admin"},
		busapi.ActionForce:                       {"auth_admin", "auth_admin", "auth_admin"},
		busapi.ActionCancel:                      {"auth_admin", "auth_admin", "auth_admin_keep"},
		busapi.ActionInhibitBlock:                {"auth_admin", "auth_admin", "auth_admin_keep"},
		busapi.ActionInhibitDelay:                {"no", "yes", "yes"},
	}, polkitActions(t))
}

// The example grants the modes, and never the right to end other people's work.
func TestTheExampleRulesGrantTheModesOnly(t *testing.T) {
	text, err := os.ReadFile("50-dubnium-operators.rules")
	require.NoError(t, err)
	for _, mode := range policy.Modes() {
		require.Contains(t, string(text), `"`+busapi.ActionRequest(mode)+`"`)
	}
	require.NotContains(t, string(text), busapi.ActionEndOtherSessions)
	require.NotContains(t, string(text), "org.dubnium.mode1.force")
}

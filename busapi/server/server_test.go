package server

import (
	"encoding/xml"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
)

// Whatever the XML says is exported with that signature, and nothing else is.
func TestXMLIsWhatIsExported(t *testing.T) {
	exported := map[string]string{}
	for _, table := range (&Server{}).exports() {
		for name, m := range table.methods {
			in, out := m.signature()
			exported[table.name+"."+name] = in + " -> " + out
		}
	}
	documented := map[string]string{}
	for _, iface := range parsed(t).Interfaces {
		for _, m := range iface.Methods {
			documented[iface.Name+"."+m.Name] = argTypes(m.Args, "in") + " -> " + argTypes(m.Args, "out")
		}
	}
	require.Equal(t, documented, exported)
}

func TestXMLHasTheSignalsThatAreSent(t *testing.T) {
	sent := map[string]string{}
	for _, e := range oneOfEach {
		member, body := busapi.EncodeEvent(e)
		sent[member] = dbus.SignatureOf(body...).String()
	}
	documented := map[string]string{}
	for _, s := range parsed(t).Interfaces[0].Signals {
		documented[s.Name] = argTypes(s.Args, "")
	}
	require.Equal(t, documented, sent)
}

func parsed(t *testing.T) introspect.Node {
	var node introspect.Node
	require.NoError(t, xml.Unmarshal([]byte(busapi.XML), &node))
	require.Equal(t, busapi.Interface, node.Interfaces[0].Name)
	return node
}

func argTypes(args []introspect.Arg, direction string) string {
	var b strings.Builder
	for _, a := range args {
		if a.Direction == direction {
			b.WriteString(a.Type)
		}
	}
	return b.String()
}

func TestIntrospectionServesTheXML(t *testing.T) {
	h := newHost(t)
	var doc string
	require.NoError(t, h.object.Call(busapi.IntrospectableInterface+".Introspect", 0).Store(&doc))
	require.Equal(t, busapi.XML, doc)
	// The way there can be walked from the root.
	require.NoError(
		t, h.conn.Object(busapi.BusName, "/org/dubnium").Call(busapi.IntrospectableInterface+".Introspect", 0).Store(&doc),
	)
	require.Contains(t, doc, `<node name="Mode1"/>`)
	require.NoError(t, h.object.Call(busapi.PeerInterface+".Ping", 0).Err)
}

func TestASecondDaemonDoesNotStart(t *testing.T) {
	h := newHost(t)
	second := New(h.controller, h.authorizer, nil, zap.NewNop(), Options{})
	require.ErrorContains(t, second.Start(hosttest.Serve(t, h.bus, second.HandleCall)), "is dubniumd running already?")
	require.NoError(t, h.call("History").Err, "the first one goes on")
}

func TestStopGivesTheNameBack(t *testing.T) {
	h := newHost(t)
	h.server.Stop(t.Context())
	var owned bool
	require.NoError(t, h.conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, busapi.BusName).Store(&owned))
	require.False(t, owned)
}

func TestAPanicIsAnsweredLoggedAndSurvived(t *testing.T) {
	h := newHost(t)
	h.controller.with(func(c *fakeController) { c.panics = true })
	call := h.call("GetTransition", uint64(1))
	refused(t, call, busapi.ErrInternal, "cannot answer GetTransition: internal error")
	require.NotContains(t, call.Err.Error(), "the view is broken", "the details are for the log")
	require.Equal(t, "the view is broken", h.logs.FilterMessage("a method failed").All()[0].ContextMap()["panic"])

	h.controller.with(func(c *fakeController) { c.panics = false })
	refused(t, h.call("GetTransition", uint64(1)), nosuch, "no record of a transition 1 is kept")
}

func TestArgumentsOfOtherTypesAreRefused(t *testing.T) {
	h := newHost(t)
	calls := map[string][]any{
		"a number for the mode":  {uint32(65), uint64(0), noOptions},
		"a double for the flags": {"desktop", 0.0, noOptions},
		"too few":                {"desktop"},
		"none":                   {},
		"too many":               {"desktop", uint64(0), noOptions, "more"},
		"other options":          {"desktop", uint64(0), map[string]string{"reason": "x"}},
	}
	for name, args := range calls {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(
				t, busapi.FromDBus(h.object.Call(busapi.Interface+".RequestMode", 0, args...).Err), busapi.ErrInvalidArgs,
			)
		})
	}
	require.Empty(t, h.controller.asked())
}

func TestACallWithoutAnInterfaceIsAuthorizedToo(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000)
	refused(
		t, h.object.Call("RequestMode", 0, "desktop", uint64(0), noOptions), busapi.ErrAccessDenied,
		"request-desktop was not granted",
	)
	require.Empty(t, h.controller.asked())
}

func TestPropertiesAreReadOnlyAndStrict(t *testing.T) {
	h := newHost(t)
	properties := busapi.PropertiesInterface
	value, err := h.object.GetProperty(busapi.Interface + ".ObservedState")
	require.NoError(t, err)
	require.Equal(t, "desktop", value.Value())

	var all busapi.Dict
	for _, name := range []string{busapi.Interface, ""} {
		require.NoError(t, h.object.Call(properties+".GetAll", 0, name).Store(&all))
		require.Equal(t, "1.2.3", all["Version"].Value())
		require.Equal(t, []string{"desktop", "studio-local", "compute"}, all["Modes"].Value())
	}
	names := []string{}
	for _, p := range parsed(t).Interfaces[0].Properties {
		names = append(names, p.Name)
	}
	require.Len(t, all, len(names))
	require.False(t, slices.ContainsFunc(names, func(n string) bool { _, ok := all[n]; return !ok }))

	var none busapi.Dict
	require.NoError(t, h.object.Call(properties+".GetAll", 0, busapi.PeerInterface).Store(&none))
	require.Empty(t, none)

	refused(
		t, h.object.Call(properties+".Set", 0, busapi.Interface, "DesiredMode", dbus.MakeVariant("compute")),
		busapi.ErrPropertyReadOnly, "DesiredMode cannot be set",
	)
	set := h.object.Call(properties+".Set", 0, busapi.Interface, "Sauna", dbus.MakeVariant(1))
	refused(t, set, busapi.ErrUnknownProperty, `no property "Sauna"`)
	get := h.object.Call(properties+".Get", 0, busapi.Interface, "Sauna")
	refused(t, get, busapi.ErrUnknownProperty, `no property "Sauna"`)
	refused(
		t, h.object.Call(properties+".Get", 0, "com.example.Other", "Version"), busapi.ErrUnknownInterface,
		"com.example.Other",
	)
	refused(
		t, h.object.Call(properties+".GetAll", 0, "com.example.Other"), busapi.ErrUnknownInterface, "com.example.Other",
	)
	refused(
		t, h.object.Call(properties+".Set", 0, "com.example.Other", "X", dbus.MakeVariant(1)), busapi.ErrUnknownInterface,
		"com.example.Other",
	)
}

package server

import (
	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
)

// The Properties interface is served here and not by godbus's prop package,
// which holds a lock during callbacks, sends a signal for each property and
// merges dictionaries where it should replace them.

func (s *Server) get(_ *call, iface, name string) (dbus.Variant, error) {
	all, err := s.propertiesOf(iface)
	if err != nil {
		return dbus.Variant{}, err
	}
	value, ok := all[name]
	if !ok {
		return dbus.Variant{}, unknownProperty(iface, name)
	}
	return value, nil
}

func (s *Server) getAll(_ *call, iface string) (busapi.Dict, error) { return s.propertiesOf(iface) }

func (s *Server) set(_ *call, iface, name string, _ dbus.Variant) error {
	all, err := s.propertiesOf(iface)
	if err != nil {
		return err
	}
	if _, ok := all[name]; !ok {
		return unknownProperty(iface, name)
	}
	return busapi.Refuse(busapi.ErrPropertyReadOnly, "the property %s cannot be set", name)
}

// propertiesOf returns an interface's properties. The empty name means every
// interface, as the specification allows; the standard ones have none.
func (s *Server) propertiesOf(iface string) (busapi.Dict, error) {
	switch iface {
	case busapi.Interface, "":
		return s.encode(s.controller.View()), nil
	case busapi.PropertiesInterface, busapi.IntrospectableInterface, busapi.PeerInterface:
		return busapi.Dict{}, nil
	}
	return nil, busapi.Refuse(busapi.ErrUnknownInterface, "%s has no interface %q", busapi.Path, iface)
}

func unknownProperty(iface, name string) error {
	return busapi.Refuse(busapi.ErrUnknownProperty, "%q has no property %q", iface, name)
}

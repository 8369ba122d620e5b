// Command bareclient does with the changes of one unit the least that anybody can who
// looks before they speak: it reads the unit's properties again and sends a signal
// with its ActiveState. Beside it one sees what the daemon adds to a signal of
// systemd's, whatever the machine is worth.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/godbus/dbus/v5"
)

const (
	systemd = "org.freedesktop.systemd1"
	unit    = systemd + ".Unit"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "bareclient takes the name of a unit")
		os.Exit(2)
	}
	if err := follow(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "bareclient: %v\n", err)
		os.Exit(1)
	}
}

// follow ends when the bus does.
func follow(name string) error {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return fmt.Errorf("cannot reach the system bus: %w", err)
	}
	defer conn.Close()
	manager := conn.Object(systemd, "/org/freedesktop/systemd1")
	var at dbus.ObjectPath
	if err := manager.Call(systemd+".Manager.LoadUnit", 0, name).Store(&at); err != nil {
		return fmt.Errorf("cannot find %s: %w", name, err)
	}
	if err := manager.Call(systemd+".Manager.Subscribe", 0).Err; err != nil {
		return fmt.Errorf("cannot subscribe: %w", err)
	}
	signals := make(chan *dbus.Signal, 100)
	conn.Signal(signals)
	err = conn.AddMatchSignal(
		dbus.WithMatchObjectPath(at), dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchArg(0, unit),
	)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	fmt.Println("listening")
	object := conn.Object(systemd, at)
	for range signals {
		var all map[string]dbus.Variant
		if err := object.Call("org.freedesktop.DBus.Properties.GetAll", 0, unit).Store(&all); err != nil {
			return fmt.Errorf("cannot read %s: %w", name, err)
		}
		if err := conn.Emit("/test", "org.dubnium.Test.Changed", all["ActiveState"].Value()); err != nil {
			return fmt.Errorf("cannot send a signal: %w", err)
		}
	}
	return errors.New("the bus has gone")
}

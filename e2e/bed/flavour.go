package bed

import (
	"fmt"
	"os"

	"github.com/dubnium/dubnium/e2e/internal/image"
)

// User is the one who is logged in at the machine's screen. Bob, uid 1001, is not.
const (
	User = "alice"
	Bob  = "bob"
)

// Flavour is a kind of workstation.
type Flavour struct {
	Name string
	// Compositor is the process's name.
	Compositor string

	recipe  image.Recipe
	answers string // a command that succeeds when the compositor answers its IPC
}

// Sway is Debian 13 with sway on dbus-daemon.
func Sway() Flavour {
	return Flavour{Name: "sway", Compositor: "sway", recipe: image.Sway(), answers: `test -n "$SWAYSOCK" && swaymsg -t get_version`}
}

// Hyprland is Debian testing with Hyprland on dbus-broker.
func Hyprland() Flavour {
	// hyprctl says "ok" or prints an error and succeeds either way.
	return Flavour{
		Name: "hyprland", Compositor: "Hyprland", recipe: image.Hyprland(),
		answers: `test -n "$HYPRLAND_INSTANCE_SIGNATURE" && hyprctl version | grep -q ^Hyprland`,
	}
}

// FlavourFromEnv is the flavour that E2E_FLAVOUR names, sway by default.
func FlavourFromEnv() (Flavour, error) {
	switch name := os.Getenv("E2E_FLAVOUR"); name {
	case "", "sway":
		return Sway(), nil
	case "hyprland":
		return Hyprland(), nil
	default:
		return Flavour{}, fmt.Errorf("unknown E2E_FLAVOUR %q: use sway or hyprland", name)
	}
}

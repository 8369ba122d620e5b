// Package image makes the disk image of the test machine: Debian's packages, a graphical session that logs in by itself,
// the agent, and nothing of Dubnium. It works in two layers, each cached by a hash of what goes into it: the packages (a
// minute or two) and, on top, our own files, the agent and the initial RAM disk (seconds).
//
// A build that fails leaves nothing behind and says which command failed with what output.
package image

import (
	"embed"
	"slices"

	"github.com/dubnium/dubnium/e2e/internal/cache"
)

// Recipe says what an image is made of.
type Recipe struct {
	Name     string // also the folder of the recipe's own files
	Suite    string // of Debian
	Packages []string
	// Expired accepts an archive whose index is past its date: testing's lasts a week, a mirror's snapshot for ever.
	Expired bool
}

// Files are the embedded files of all recipes, in files/common and files/NAME.
//
//go:embed all:files
var files embed.FS

// common is a workstation with a login manager, a user manager, audio and a policy agent, but no compositor.
var common = []string{
	"systemd", "systemd-sysv", "udev", "dbus", "dbus-user-session", "polkitd", "libpam-systemd", "kmod", "procps",
	"iproute2", "util-linux", "passwd", "login", "sudo", "linux-image-amd64", "greetd", "foot", "pipewire",
	"pipewire-pulse", "pipewire-jack", "pipewire-bin", "wireplumber", "pulseaudio-utils", "jack-example-tools", "psmisc",
	"lsof", "openssh-server",
}

// Sway is Debian 13 with sway and dbus-daemon.
func Sway() Recipe {
	return Recipe{Name: "sway", Suite: "trixie", Packages: with("sway")}
}

// Hyprland is Debian testing with Hyprland and dbus-broker.
func Hyprland() Recipe {
	return Recipe{
		Name: "hyprland", Suite: "forky", Expired: true,
		Packages: with("hyprland", "dbus-broker", "libgl1-mesa-dri", "libegl-mesa0", "libgles2", "libgbm1"),
	}
}

func with(packages ...string) []string { return append(slices.Clone(common), packages...) }

// setup runs in the new root before it is packed. Passwords are the users' names: tests of authentication need some.
const setup = `
useradd --create-home --uid 1000 --shell /bin/bash alice
useradd --create-home --uid 1001 --shell /bin/bash bob
printf '%s\n' root:root alice:alice bob:bob | chpasswd
systemctl disable ssh.service ssh.socket
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
`

// rootfsEntry names the layer of packages. Versions are not part of it: they are what the archive had that day.
func (r Recipe) rootfsEntry() (cache.Entry, error) {
	key, err := cache.Key(mmdebstrapArgs(r, "", ""))
	return cache.Entry{Kind: "rootfs-" + r.Name, Key: key}, err
}

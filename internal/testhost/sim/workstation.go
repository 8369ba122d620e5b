package sim

import "time"

// Workstation is the set of units that a Debian workstation with the project's
// own units has, as far as modes care. The targets' contents are those of the
// files under systemd/.
func Workstation() []Unit {
	var units []Unit
	for _, part := range [][]Unit{plumbing(), services(), maintenance(), modeUnits()} {
		units = append(units, part...)
	}
	return units
}

// plumbing is systemd's own part (systemd.special(7)).
func plumbing() []Unit {
	early := func(name string) Unit {
		return Unit{Name: name, NoDefaultDependencies: true, IgnoreOnIsolate: true, WantedBy: []string{"sysinit.target"}}
	}
	return []Unit{
		{Name: "sysinit.target", Description: "System Initialization", Wants: []string{"local-fs.target"}},
		{Name: "local-fs.target", Description: "Local File Systems", NoDefaultDependencies: true},
		{
			Name: "basic.target", Description: "Basic System", Requires: []string{"sysinit.target"},
			Wants: []string{
				"sockets.target", "timers.target", "paths.target", "slices.target",
			}, After: []string{"sysinit.target"},
		},
		{Name: "sockets.target"},
		{Name: "timers.target"},
		{Name: "paths.target"},
		{Name: "slices.target", Wants: []string{"system.slice", "user.slice"}},
		{Name: "network.target", FileState: "static"},
		{Name: "network-online.target", After: []string{"network.target"}},
		{Name: "getty.target", WantedBy: []string{"multi-user.target"}},
		{
			Name: "multi-user.target", Description: "Multi-User System", AllowIsolate: true,
			Requires: []string{"basic.target"}, After: []string{"basic.target"},
		},
		{
			Name: "graphical.target", Description: "Graphical Interface", AllowIsolate: true,
			Requires: []string{"multi-user.target"}, Wants: []string{"display-manager.service"},
			After: []string{"multi-user.target", "display-manager.service"},
		},
		early("systemd-journald.service"), early("systemd-udevd.service"),
		{Name: "system.slice", IgnoreOnIsolate: true},
		{Name: "user.slice", IgnoreOnIsolate: true},
		{
			Name: "user@.service", Description: "User Manager for UID %i", IgnoreOnIsolate: true,
			Slice: "user-%i.slice", After: []string{"systemd-user-sessions.service"},
		},
	}
}

func services() []Unit {
	multiUser := []string{"multi-user.target"}
	return []Unit{
		{Name: "dbus.socket", WantedBy: []string{"sockets.target"}, Triggers: []string{"dbus.service"}},
		{Name: "dbus.service", Requires: []string{"dbus.socket"}, After: []string{"dbus.socket"}, WantedBy: multiUser},
		{Name: "systemd-logind.service", WantedBy: multiUser, After: []string{"dbus.socket"}},
		{Name: "systemd-user-sessions.service", Oneshot: true, RemainAfterExit: true, WantedBy: multiUser},
		{Name: "plymouth-quit-wait.service", Oneshot: true, RemainAfterExit: true, WantedBy: multiUser},
		{Name: "getty@tty2.service", WantedBy: []string{"getty.target"}, Program: &Program{Comm: "agetty"}},
		{Name: "polkit.service", Description: "Authorization Manager", Program: &Program{Comm: "polkitd", UID: 997}},
		{
			Name: "NetworkManager.service", WantedBy: multiUser, Wants: []string{"network.target"},
			Before: []string{"network.target"}, Program: &Program{Comm: "NetworkManager"},
		},
		{
			Name: "NetworkManager-wait-online.service", Oneshot: true, RemainAfterExit: true,
			Requires: []string{"NetworkManager.service"}, After: []string{"NetworkManager.service"},
			WantedBy: []string{"network-online.target"},
		},
		{Name: "ssh.service", WantedBy: multiUser, After: []string{"network.target"}, Program: &Program{Comm: "sshd"}},
		{
			Name: "k3s.service", Description: "Lightweight Kubernetes", Slice: "platform.slice", WantedBy: multiUser,
			After: []string{"network-online.target"}, Wants: []string{"network-online.target"},
			Program: &Program{Comm: "k3s-server", Cmdline: []string{"/usr/local/bin/k3s", "server"}},
		},
		{
			Name: "greetd.service", Aliases: []string{"display-manager.service"}, Description: "Greeter daemon",
			After:   []string{"systemd-user-sessions.service", "plymouth-quit-wait.service"},
			Program: &Program{Comm: "greetd", Cmdline: []string{"/usr/sbin/greetd"}},
		},
	}
}

// maintenance is what a studio session wants to be quiet.
func maintenance() []Unit {
	var units []Unit
	for _, name := range []string{"fstrim", "logrotate", "plocate-updatedb", "nix-gc", "nix-optimise"} {
		units = append(units,
			Unit{Name: name + ".timer", WantedBy: []string{"timers.target"}, Triggers: []string{name + ".service"}},
			Unit{Name: name + ".service", Oneshot: true, StartTakes: 50 * time.Millisecond})
	}
	return units
}

// modeUnits are the project's own, and vLLM.
func modeUnits() []Unit {
	quiet := func(name string) Unit {
		return Unit{Name: name, IgnoreOnIsolate: true, WantedBy: []string{"sockets.target"}}
	}
	return []Unit{
		{
			Name: "desktop.target", Description: "Desktop Mode", AllowIsolate: true,
			Wants: []string{"graphical.target", "polkit.service"}, After: []string{"graphical.target"},
			Conflicts: []string{"compute.target"},
		},
		{
			Name: "compute.target", Description: "Compute Mode", AllowIsolate: true,
			Requires: []string{"multi-user.target"}, Wants: []string{"network-online.target", "polkit.service"},
			After:     []string{"multi-user.target", "network-online.target"},
			Conflicts: []string{"graphical.target", "desktop.target"},
		},
		{Name: "interactive.slice"},
		{Name: "ai.slice"},
		{Name: "platform.slice"},
		{Name: "studio-local-policy.service", Oneshot: true, RemainAfterExit: true},
		{
			Name: "audio-priority.service", Program: &Program{Comm: "dubniumd", Cmdline: []string{"dubniumd", "audio-priority"}},
		},
		{Name: "dubnium-quantum@.service", BindsTo: []string{"audio-priority.service"}, Program: &Program{Comm: "dubniumd"}},
		{Name: "dubnium-session-end@.service", Oneshot: true},
		{Name: "mode-controller@.service", Oneshot: true, IgnoreOnIsolate: true},
		{Name: "mode-observe.service", Oneshot: true, IgnoreOnIsolate: true},
		{Name: "dubniumd.service", IgnoreOnIsolate: true, WantedBy: []string{"multi-user.target"}},
		quiet("dubnium-probe-holders.socket"), quiet("dubnium-probe-inference.socket"),
		{Name: "dubnium-probe-holders.service", IgnoreOnIsolate: true},
		{Name: "dubnium-probe-inference.service", IgnoreOnIsolate: true},
		{Name: "dubnium-probe-audio@.socket", IgnoreOnIsolate: true},
		{Name: "dubnium-probe-audio@.service", IgnoreOnIsolate: true},
		{
			Name: "vllm.service", Description: "vLLM inference server", Slice: "ai.slice",
			WantedBy: []string{"compute.target"}, After: []string{"network-online.target"},
			Program: &Program{
				Comm: "vllm", Cmdline: []string{"python3", "/opt/vllm/bin/vllm", "serve"},
				UID: 990, Opens: []string{"renderD128"},
			},
		},
	}
}

// Seat is who sits at the workstation: alice, logged in by greetd under sway,
// and a greeter when she is not.
func Seat() LoginConfig {
	return LoginConfig{
		DisplayManager: "greetd.service",
		AutoLogin:      "alice",
		Greeter: UserConfig{
			UID: 994, Name: "_greetd",
			Session:  Session{Class: "greeter", Type: "tty", Service: "greetd", TTY: "tty1", VT: 1},
			Programs: []Program{{Comm: "agreety"}},
		},
		Users: []UserConfig{{
			UID: 1000, Name: "alice",
			Session:  Session{Class: "user", Type: "wayland", Service: "greetd", TTY: "tty1", VT: 1, Desktop: "sway"},
			Programs: []Program{{Comm: "sway", Opens: []string{"card0", "renderD128"}}, {Comm: "foot"}},
			Services: []Program{{Comm: "pipewire"}, {Comm: "wireplumber"}, {Comm: "pipewire-pulse"}},
		}},
		GreeterTakes:  5 * time.Millisecond,
		UserStopTakes: 20 * time.Millisecond,
	}
}

package doctor

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// The units that are Dubnium's own. The instance of a template stands for all.
const (
	daemonUnit     = "dubniumd.service"
	holdersSocket  = "dubnium-probe-holders.socket"
	holdersUnit    = "dubnium-probe-holders.service"
	vllmSocket     = "dubnium-probe-inference.socket"
	vllmProbe      = "dubnium-probe-inference.service"
	gpuSocket      = "dubnium-probe-gpu.socket"
	gpuProbe       = "dubnium-probe-gpu.service"
	audioSocket    = "dubnium-probe-audio@0.socket"
	audioProbe     = "dubnium-probe-audio@0.service"
	sessionEnd     = "dubnium-session-end@0.service"
	reinstall      = "install Dubnium again (make install), then systemctl daemon-reload"
	minimumSystemd = 253 // Type=notify-reload
)

// Units lists the units that have to be looked at for a policy.
func Units(p policy.Policy) []string {
	all := []string{
		daemonUnit, holdersSocket, holdersUnit, vllmSocket, vllmProbe, gpuSocket, gpuProbe, audioSocket, audioProbe,
		p.Units.DesktopTarget, p.Units.ComputeTarget, p.Units.DisplayManager, p.Units.StudioPolicy,
		p.Units.AudioPriority, p.Units.K3s,
	}
	if len(p.Sessions.EndHook) > 0 {
		all = append(all, sessionEnd)
	}
	all = append(append(append(all, p.VLLMUnits()...), p.MustSurvive...), p.GPU.PermittedHolders...)
	slices.Sort(all)
	return slices.Compact(all)
}

// bus: there is one, the daemon has its name, it is the daemon, and it answers.
func bus(f Facts, s *sheet) {
	d := f.Daemon
	switch {
	case f.BusErr != "":
		s.fail("systemctl status dbus", "the system bus cannot be reached: %s", f.BusErr)
		return
	case d.Err != "" && !d.Owned:
		s.fail(startDaemon, "dubniumd is not on the bus: %s", d.Err)
		return
	case d.Err != "":
		s.fail("systemctl status dubniumd; is the bus policy org.dubnium.Mode1.conf installed? then systemctl reload dbus",
			"whoever has the name org.dubnium.Mode1 cannot be called: %s", d.Err)
		return
	case d.UID != 0:
		s.fail("see who runs it (busctl status org.dubnium.Mode1), and install the bus policy org.dubnium.Mode1.conf",
			"the name org.dubnium.Mode1 is owned by uid %d, not by root", d.UID)
	case d.Process == "":
		s.unseen(asRoot, "which program owns org.dubnium.Mode1 cannot be seen")
	case d.Process != "dubniumd":
		s.fail("busctl status org.dubnium.Mode1", "the name org.dubnium.Mode1 is owned by %q, not by dubniumd", d.Process)
	default:
		s.ok("dubniumd owns org.dubnium.Mode1 and answers")
	}
	for _, w := range d.Warnings {
		s.warn(
			"see df and mount for the state directory, and journalctl -u dubniumd", "dubniumd warns: %s: %s", w.Code, w.Text,
		)
	}
}

// units: what was installed is there, and an isolate spares what has to live on.
func units(f Facts, s *sheet) {
	switch {
	case f.BusErr != "":
		s.unseen("first the bus", "units cannot be looked at without the bus")
		return
	case f.Manager.Err != "":
		s.fail("systemctl status; is systemd PID 1?", "systemd cannot be asked: %s", f.Manager.Err)
		return
	}
	p := f.Policy
	for _, name := range []string{daemonUnit, holdersSocket, vllmSocket} {
		f.unit(s, name, demand{spared: true, active: true})
	}
	for _, name := range []string{holdersUnit, vllmProbe, audioSocket, audioProbe} {
		f.unit(s, name, demand{spared: true})
	}
	if f.Driver != "" {
		f.unit(s, gpuSocket, demand{spared: true, active: true})
		f.unit(s, gpuProbe, demand{spared: true})
	}
	if len(p.Sessions.EndHook) > 0 {
		f.unit(s, sessionEnd, demand{})
	}
	f.unit(s, p.Units.DesktopTarget, demand{isolated: true})
	f.unit(s, p.Units.ComputeTarget, demand{isolated: true})
	f.unit(s, p.Units.StudioPolicy, demand{})
	f.unit(s, p.Units.AudioPriority, demand{})
	if got := f.Manager.DefaultTarget; got != p.Units.DesktopTarget {
		s.warn("systemctl set-default "+p.Units.DesktopTarget,
			"the machine boots to %s: dubniumd starts %s after that", got, p.Units.DesktopTarget)
		return
	}
	s.ok("the machine boots to %s", p.Units.DesktopTarget)
}

// demand is what a unit has to be beside there.
type demand struct {
	spared   bool // by an isolate
	isolated bool // a target that may be
	active   bool
}

// unit judges one: the first thing that is wrong with it.
func (f Facts) unit(s *sheet, name string, want demand) {
	u, seen := f.Units[name]
	switch {
	case !seen || u.Err != "":
		s.unseen("systemctl status "+name, "%s cannot be looked at: %s", name, u.Err)
	case u.LoadState == "masked":
		s.fail("systemctl unmask "+name, "%s is masked", name)
	case u.LoadState == "not-found":
		s.fail(reinstall, "%s is not installed", name)
	case u.LoadState != "loaded":
		s.fail("systemctl status "+name, "%s cannot be used: its load state is %s", name, u.LoadState)
	case u.NeedReload:
		s.warn("systemctl daemon-reload", "the file of %s is another than the one that systemd has", name)
	case want.spared && !u.IgnoreOnIsolate:
		s.fail(
			"take IgnoreOnIsolate=no out of its drop-ins (systemctl cat "+name+")",
			"%s would be stopped on the way to another mode", name,
		)
	case want.isolated && !u.AllowIsolate:
		s.fail("take AllowIsolate=no out of its drop-ins (systemctl cat "+name+")", "%s may not be isolated", name)
	case want.active && u.ActiveState != "active":
		s.fail("systemctl enable --now "+name, "%s is %s", name, u.ActiveState)
	case want.active && u.FileState == "disabled":
		s.warn("systemctl enable "+name, "%s runs, and will not after a reboot", name)
	default:
		s.ok("%s is as it should be", name)
	}
}

// polkit: it answers, and knows what may be asked for.
func polkit(f Facts, s *sheet) {
	switch {
	case f.BusErr != "":
		s.unseen("first the bus", "polkit cannot be asked without the bus")
		return
	case f.Polkit.Err != "":
		s.fail("systemctl status polkit; until then only root may ask for a mode", "polkit does not answer: %s", f.Polkit.Err)
		return
	}
	var missing []string
	for _, action := range Actions() {
		if !slices.Contains(f.Polkit.Actions, action) {
			missing = append(missing, action)
		}
	}
	if len(missing) > 0 {
		s.fail("install org.dubnium.mode1.policy under /usr/share/polkit-1/actions; until then only root may ask for a mode",
			"polkit does not know %s", strings.Join(missing, ", "))
		return
	}
	s.ok("polkit answers and knows all %d actions", len(Actions()))
}

// Actions lists the polkit actions that Dubnium asks for.
func Actions() []string {
	var all []string
	for _, m := range policy.Modes() {
		all = append(all, "org.dubnium.mode1.request-"+string(m))
	}
	for _, name := range []string{"force", "end-other-sessions", "cancel", "inhibit-block", "inhibit-delay"} {
		all = append(all, "org.dubnium.mode1."+name)
	}
	return all
}

// versions: the parts are of one make, and systemd is young enough.
func versions(f Facts, s *sheet) {
	switch d := f.Daemon; {
	case d.Err != "" || f.BusErr != "":
		s.unseen(startDaemon, "modectl is %s; of which version dubniumd is, only it can tell", f.Version)
	case d.Version != f.Version:
		s.warn(
			"systemctl restart dubniumd, or install both from one build", "modectl is %s, dubniumd is %s", f.Version, d.Version,
		)
	default:
		s.ok("modectl and dubniumd are %s", f.Version)
	}
	if f.BusErr != "" || f.Manager.Err != "" {
		s.unseen("first the bus", "the version of systemd is not known")
		return
	}
	digits := strings.TrimLeft(f.Manager.Version, "v")
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	switch n, err := strconv.Atoi(digits); {
	case err != nil:
		s.warn("systemctl --version", "the version of systemd cannot be read from %q", f.Manager.Version)
	case n < minimumSystemd:
		s.fail(
			"use a distribution with a newer one", "systemd is %s, and has to be %d at least", f.Manager.Version, minimumSystemd,
		)
	default:
		s.ok("systemd is %s", f.Manager.Version)
	}
}

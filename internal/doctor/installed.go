package doctor

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// The units of Dubnium. One instance of a template represents all.
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
	repairBus      = "repair the system bus (systemctl status dbus)"
	minimumSystemd = 253 // Type=notify-reload
)

// Units lists the units to check for a policy.
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

// bus checks that the bus is reachable, and that dubniumd owns its name and answers.
func bus(f Facts, s *sheet) {
	d := f.Daemon
	switch {
	case f.BusErr != "":
		s.fail("systemctl status dbus", "%s", f.BusErr)
		return
	case d.Err != "" && !d.Owned:
		s.fail(startDaemon, "%s", d.Err)
		return
	case d.Err != "":
		s.fail("systemctl status dubniumd; is the bus policy org.dubnium.Mode1.conf installed? then systemctl reload dbus",
			"dubniumd does not answer on the bus: %s", d.Err)
		return
	case d.UID != 0:
		s.fail("find its owner (busctl status org.dubnium.Mode1), and install the bus policy org.dubnium.Mode1.conf",
			"the name org.dubnium.Mode1 is owned by uid %d, not by root", d.UID)
	case d.Process == "":
		s.unseen(asRoot, "cannot read which program owns org.dubnium.Mode1")
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

// units checks that the units are installed, and that an isolate spares those that
// must survive it.
func units(f Facts, s *sheet) {
	switch {
	case f.BusErr != "":
		s.unseen(repairBus, "cannot read units without the bus")
		return
	case f.Manager.Err != "":
		s.fail("systemctl status; is systemd PID 1?", "systemd does not answer: %s", f.Manager.Err)
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
			"the machine boots to %s; dubniumd then starts %s", got, p.Units.DesktopTarget)
		return
	}
	s.ok("the machine boots to %s", p.Units.DesktopTarget)
}

// demand is what a unit must be beside installed.
type demand struct {
	spared   bool // by an isolate
	isolated bool // it may be isolated
	active   bool
}

// unit reports the first fault of a unit.
func (f Facts) unit(s *sheet, name string, want demand) {
	u, ok := f.Units[name]
	switch {
	case !ok || u.Err != "":
		s.unseen("systemctl status "+name, "cannot read %s: %s", name, cmp.Or(u.Err, notRead))
	case u.LoadState == "masked":
		s.fail("systemctl unmask "+name, "%s is masked", name)
	case u.LoadState == "not-found":
		s.fail(reinstall, "%s is not installed", name)
	case u.LoadState != "loaded":
		s.fail("systemctl status "+name, "%s is not usable: its load state is %s", name, u.LoadState)
	case u.NeedReload:
		s.warn("systemctl daemon-reload", "the file of %s has changed since systemd loaded it", name)
	case want.spared && !u.IgnoreOnIsolate:
		s.fail("remove IgnoreOnIsolate=no from its drop-ins (systemctl cat "+name+")",
			"a transition would stop %s", name)
	case want.isolated && !u.AllowIsolate:
		s.fail("remove AllowIsolate=no from its drop-ins (systemctl cat "+name+")", "%s cannot be isolated", name)
	case want.active && u.ActiveState != "active":
		s.fail("systemctl enable --now "+name, "%s is %s", name, u.ActiveState)
	case want.active && u.FileState == "disabled":
		s.warn("systemctl enable "+name, "%s is active, but will not start at the next boot", name)
	default:
		s.ok("%s is set up", name)
	}
}

// polkit checks that polkit answers and that the actions are installed.
func polkit(f Facts, s *sheet) {
	switch {
	case f.BusErr != "":
		s.unseen(repairBus, "cannot call polkit without the bus")
		return
	case f.Polkit.Err != "":
		s.fail("systemctl status polkit; until then only root can request a mode",
			"polkit does not answer: %s", f.Polkit.Err)
		return
	}
	var missing []string
	for _, action := range Actions() {
		if !slices.Contains(f.Polkit.Actions, action) {
			missing = append(missing, action)
		}
	}
	if len(missing) > 0 {
		s.fail("install org.dubnium.mode1.policy in /usr/share/polkit-1/actions; until then only root can request a mode",
			"actions unknown to polkit: %s", strings.Join(missing, ", "))
		return
	}
	s.ok("polkit answers and has all %d actions", len(Actions()))
}

// Actions lists the polkit actions of Dubnium.
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

// versions checks that modectl and dubniumd have one version, and that systemd is
// recent enough.
func versions(f Facts, s *sheet) {
	switch d := f.Daemon; {
	case d.Err != "" || f.BusErr != "":
		s.unseen(startDaemon, "modectl is %s; dubniumd's version is unknown (not running)", f.Version)
	case d.Version != f.Version:
		s.warn(
			"systemctl restart dubniumd, or install both from one build", "modectl is %s, dubniumd is %s", f.Version, d.Version,
		)
	default:
		s.ok("modectl and dubniumd are %s", f.Version)
	}
	if f.BusErr != "" || f.Manager.Err != "" {
		s.unseen(repairBus, "the version of systemd is unknown")
		return
	}
	digits := strings.TrimLeft(f.Manager.Version, "v")
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	switch n, err := strconv.Atoi(digits); {
	case err != nil:
		s.warn("systemctl --version", "%q is not a version of systemd", f.Manager.Version)
	case n < minimumSystemd:
		s.fail("use a distribution with a newer systemd",
			"systemd is %s, at least %d is required", f.Manager.Version, minimumSystemd)
	default:
		s.ok("systemd is %s", f.Manager.Version)
	}
}

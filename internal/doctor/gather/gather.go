// Package gather reads the facts that internal/doctor judges: from the bus, from
// dubniumd, and from files of the host.
//
// Failure semantics: there is no error. A fact that cannot be read has the cause. Every
// call is bounded, and nothing is changed, except that polkit may be started.
package gather

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/internal/doctor"
	"github.com/dubnium/dubnium/internal/errtext"
	"github.com/dubnium/dubnium/internal/version"
	"github.com/dubnium/dubnium/policy"
)

// callTimeout bounds one call.
const callTimeout = 10 * time.Second

// Facts reads the host. policyFile is the policy to read without a daemon.
func Facts(ctx context.Context, policyFile string) doctor.Facts {
	f := doctor.Facts{
		Now: time.Now(), UID: uint32(os.Geteuid()), Version: version.Version, Clock: clock(), Driver: driver(),
	}
	g := gatherer{&f}
	g.bus(ctx)
	g.policyFile(policyFile)
	f.Policy.Chosen = changed(policy.Default(), f.Policy.Policy)
	f.Paths = paths(f.Policy, policyFile)
	if f.BusErr == "" {
		g.systemd(ctx)
	}
	return f
}

type gatherer struct{ *doctor.Facts }

// bus reads from dubniumd and polkit.
func (g gatherer) bus(ctx context.Context) {
	daemon, err := client.Open(ctx, client.Options{})
	if err != nil {
		g.BusErr, g.Daemon.Err, g.EvidenceErr = text(err), text(err), text(err)
		return
	}
	defer daemon.Close()
	g.daemon(ctx, daemon)
	conn, err := busconn.Open(busconn.Options{})
	if err != nil {
		g.BusErr = text(err)
		return
	}
	defer conn.Close()
	g.owner(ctx, conn)
	g.polkit(ctx, conn)
}

func (g gatherer) daemon(ctx context.Context, daemon *client.Client) {
	p, err := daemon.Properties(ctx)
	if err != nil {
		g.Daemon.Err, g.EvidenceErr = text(err), text(err)
		return
	}
	g.Daemon.Version, g.Daemon.Warnings = p.Version, p.View.Warnings
	if p.View.Last != nil {
		g.Daemon.LastFinished = p.View.Last.Finished
	}
	if inForce, err := daemon.Policy(ctx); err != nil {
		g.Policy.Err = text(err)
	} else {
		g.inForce(inForce)
	}
	evidence, err := daemon.Observe(ctx)
	g.Evidence, g.EvidenceErr = evidence.Snapshot, text(err)
	// Only a transition to compute releases the display GPUs.
	records, err := daemon.History(ctx, status.Filter{Mode: policy.Compute, Limit: recordsRead})
	g.Releases, g.HistoryErr = releases(records), text(err)
}

// recordsRead is the number of newest transitions to compute that are searched for
// releases: many were refused, or found the GPUs free, and have none.
const recordsRead = 100

func releases(records []status.Record) (found []doctor.Release) {
	for _, r := range records {
		for _, step := range r.Steps {
			if len(step.Residual) > 0 {
				found = append(found, doctor.Release{Transition: r.ID, InUse: step.Residual})
			}
		}
	}
	return found
}

// inForce stores the policy that the daemon uses.
func (g gatherer) inForce(p busapi.Policy) {
	var lines []string
	for _, s := range p.Settings {
		lines = append(lines, s.Line())
	}
	d, err := policy.ParseDocument(p.File, []byte(strings.Join(lines, "\n")))
	if err != nil {
		// A daemon of another version may have keys that this version does not know.
		g.Policy.Err = "cannot read the policy of the daemon: " + text(err)
		return
	}
	g.Policy.Policy, g.Policy.File, g.Policy.InForce = d.Policy, p.File, true
}

// policyFile reads the policy file of the daemon and compares it with the policy in
// force. Without a daemon it is the policy.
func (g gatherer) policyFile(path string) {
	if g.Policy.InForce {
		path = g.Policy.File
	} else {
		g.Policy.File = path
	}
	if path == "" {
		return
	}
	d, err := policy.LoadDocument(path)
	switch findings := policy.Findings(err); {
	case len(findings) > 0:
		for _, finding := range findings {
			g.Policy.FileErrs = append(g.Policy.FileErrs, finding.String())
		}
	case errors.Is(err, fs.ErrPermission) && g.UID != 0:
		g.Policy.Unread = text(err)
	case err != nil:
		g.Policy.FileErrs = []string{text(err)}
	}
	switch {
	case err == nil && g.Policy.InForce:
		g.Policy.Pending = changed(g.Policy.Policy, d.Policy)
	case err == nil:
		g.Policy.Policy, g.Policy.Err = d.Policy, ""
	case !g.Policy.InForce:
		// The other checks use the default names.
		g.Policy.Policy, g.Policy.Err = policy.Default(), "its file is not valid"
	}
}

// changed lists the keys that have another value in next.
func changed(old, next policy.Policy) (keys []string) {
	before, after := policy.Document{Policy: old}, policy.Document{Policy: next}
	for _, c := range policy.Diff(before.Settings(), after.Settings()) {
		keys = append(keys, c.Key)
	}
	return keys
}

// owner reads the owner of the daemon's name.
func (g gatherer) owner(ctx context.Context, conn *dbus.Conn) {
	var owner string
	bus := conn.BusObject()
	if call(ctx, bus, "org.freedesktop.DBus.GetNameOwner", busapi.BusName).Store(&owner) != nil {
		return // Daemon.Err says so
	}
	var pid uint32
	uidErr := call(ctx, bus, "org.freedesktop.DBus.GetConnectionUnixUser", owner).Store(&g.Daemon.UID)
	pidErr := call(ctx, bus, "org.freedesktop.DBus.GetConnectionUnixProcessID", owner).Store(&pid)
	if uidErr != nil || pidErr != nil {
		return // it left the bus between two calls
	}
	g.Daemon.Owned = true
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
		g.Daemon.Process = strings.TrimSpace(string(comm))
	}
}

// polkit reads the actions of polkit. The call starts polkit if it is not running: an
// isolate stops it until the next call.
func (g gatherer) polkit(ctx context.Context, conn *dbus.Conn) {
	var actions []struct {
		ID, Description, Message, Vendor, VendorURL, Icon string
		Any, Inactive, Active                             uint32
		Annotations                                       map[string]string
	}
	authority := conn.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority")
	err := call(ctx, authority, "org.freedesktop.PolicyKit1.Authority.EnumerateActions", "").Store(&actions)
	g.Polkit.Err = text(err)
	for _, a := range actions {
		g.Polkit.Actions = append(g.Polkit.Actions, a.ID)
	}
}

// systemd reads its version and the units.
func (g gatherer) systemd(ctx context.Context) {
	bus, err := busconn.Connect("")
	if err != nil {
		g.Manager.Err = text(err)
		return
	}
	defer bus.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const manager = systemd1.Name + ".Manager"
	v, err := bus.Property(ctx, systemd1.Name, systemd1.Path, manager, "Version")
	var body []any
	if err == nil {
		g.Manager.Version, _ = v.Value().(string)
		body, err = bus.Call(ctx, systemd1.Name, systemd1.Path, manager+".GetDefaultTarget")
	}
	if err == nil {
		err = dbus.Store(body, &g.Manager.DefaultTarget)
	}
	if err != nil {
		g.Manager.Err = text(err)
		return
	}
	g.Units = map[string]doctor.Unit{}
	for _, name := range doctor.Units(g.Policy.Policy) {
		g.Units[name] = unit(ctx, bus, name)
	}
}

func unit(ctx context.Context, bus *busconn.Bus, name string) doctor.Unit {
	var p busconn.Properties
	at, err := systemd1.New(bus).Load(ctx, name)
	if err == nil {
		p, err = bus.Properties(ctx, systemd1.Name, at, systemd1.Name+".Unit")
	}
	if err != nil {
		return doctor.Unit{Err: text(err)}
	}
	r := p.Read()
	u := doctor.Unit{
		LoadState: r.String("LoadState"), ActiveState: r.String("ActiveState"), FileState: r.String("UnitFileState"),
		IgnoreOnIsolate: r.Bool("IgnoreOnIsolate"), AllowIsolate: r.Bool("AllowIsolate"),
		NeedReload: r.Bool("NeedDaemonReload"),
	}
	u.Err = text(r.Err())
	return u
}

// call makes one bounded call.
func call(ctx context.Context, object dbus.BusObject, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return object.CallWithContext(ctx, method, 0, args...)
}

// paths reads the owners and modes of Dubnium's files and their directories.
func paths(p doctor.Policy, policyFile string) []doctor.Path {
	if p.File != "" {
		policyFile = p.File
	}
	list := []doctor.Path{
		{Path: policyFile, Optional: true},
		{Path: p.Paths.Runtime},
		{Path: p.Paths.State},
		{Path: p.Paths.Probes},
		{Path: filepath.Join(p.Paths.State, "events.jsonl"), Optional: true},
		{Path: filepath.Join(p.Paths.State, "transition.json"), Optional: true},
	}
	list = slices.DeleteFunc(list, func(p doctor.Path) bool { return !filepath.IsAbs(p.Path) })
	for i := range list {
		stat(&list[i])
		for dir := filepath.Dir(list[i].Path); ; dir = filepath.Dir(dir) {
			above := doctor.Path{Path: dir}
			stat(&above)
			list[i].Above = slices.Insert(list[i].Above, 0, above)
			if dir == "/" {
				break
			}
		}
	}
	return list
}

// stat follows links, as the daemon does.
func stat(p *doctor.Path) {
	info, err := os.Stat(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Missing = true
	case err != nil:
		p.Err = text(errors.Unwrap(err)) // without the path
	default:
		p.Mode = info.Mode()
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			p.UID = sys.Uid
		}
	}
}

// clock reads the state of the kernel (adjtimex(2)), as timedatectl does.
func clock() (c doctor.Clock) {
	var now unix.Timex
	if _, err := unix.Adjtimex(&now); err != nil {
		c.Err = text(err)
	}
	c.Synchronized = c.Err == "" && now.Status&unix.STA_UNSYNC == 0
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err == nil {
		c.Boot = time.Now().Add(-time.Duration(up.Nano()))
	}
	return c
}

// driver is the first line of the version file of the NVIDIA driver; empty for none.
func driver() string {
	data, err := os.ReadFile("/proc/driver/nvidia/version")
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

func text(err error) string { return errtext.Of(err) }

package testhost

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// openPolicy lets everybody do everything, as a session bus does.
const openPolicy = `<policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
  </policy>`

// strictPolicy is the default of the real system bus (dbus 1.14,
// bus/system.conf.in), with the names of the fakes as their own files have them.
const strictPolicy = `<policy context="default">
    <allow user="*"/><deny own="*"/><deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
    <allow send_destination="org.freedesktop.systemd1"/><allow send_destination="org.freedesktop.login1"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
  <policy user="%d">
    <allow own="org.freedesktop.systemd1"/><allow own="org.freedesktop.login1"/>
    <allow own="org.freedesktop.PolicyKit1"/>
  </policy>`

// busConfig writes the daemon's configuration. With policy directories the bus
// is as strict as the system bus, and they are read after the defaults.
func busConfig(socket string, policyDirs []string) string {
	policy := openPolicy
	if len(policyDirs) > 0 {
		policy = fmt.Sprintf(strictPolicy, os.Getuid())
	}
	var include strings.Builder
	for _, dir := range policyDirs {
		include.WriteString("<includedir>")
		_ = xml.EscapeText(&include, []byte(dir)) // a Builder takes everything
		include.WriteString("</includedir>\n  ")
	}
	return fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  %s
  %s</busconfig>
`, socket, policy, include.String())
}

// startBus starts a private dbus-daemon in dir and returns its address.
func startBus(dir string, policyDirs []string) (*child, string, error) {
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		return nil, "", fmt.Errorf("cannot find dbus-daemon (Debian: apt install dbus-daemon): %w", err)
	}
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, []byte(busConfig(filepath.Join(dir, "bus"), policyDirs)), 0o644); err != nil {
		return nil, "", fmt.Errorf("cannot write the bus configuration: %w", err)
	}
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog", "--print-address=1")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", fmt.Errorf("cannot watch dbus-daemon: %w", err)
	}
	c, err := startChild(cmd)
	if err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.stop()
		return nil, "", fmt.Errorf("cannot get an address from dbus-daemon: %w: %s", err, complaints.String())
	}
	return c, strings.TrimSpace(line), nil
}

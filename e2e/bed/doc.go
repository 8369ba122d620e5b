// Package bed runs a real workstation in a virtual machine for tests: systemd, logind, greetd with a compositor,
// PipeWire, polkit and the system bus, without anything of Dubnium. The machine is installed once, booted once and saved;
// each test restores it, in about a second, on a throwaway disk:
//
//	func TestSomething(t *testing.T) {
//		m := bed.Restore(t)
//		m.PutTree(ctx, staging)
//		m.Run(ctx, "systemctl", "daemon-reload")
//		m.WaitUnit(ctx, "greetd.service", "active")
//	}
//
// Machines run one at a time on a host, whoever starts them. A method of Machine fails its test when it cannot do what
// it says; the same method of VM returns the error. When a test fails, what the machine can tell (journal, console, bus,
// units, processes, Dubnium's files) is left in e2e/artifacts/NAME.
//
// Environment: E2E_FLAVOUR (sway, hyprland), E2E_ACCEL (kvm, tcg; default: kvm if it really works), E2E_CACHE and
// E2E_ARTIFACTS (directories).
package bed

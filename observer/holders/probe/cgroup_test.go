package probe

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlaceInTheUnitTree(t *testing.T) {
	cases := map[string]struct {
		cgroup string
		want   place
	}{
		"a session scope": {
			"0::/user.slice/user-1000.slice/session-c2.scope\n",
			place{"session-c2.scope", []string{"user.slice", "user-1000.slice"}, "c2"},
		},
		"a compositor under its user's manager": {
			"0::/user.slice/user-1000.slice/user@1000.service/session.slice/wayland-wm@hyprland.desktop.service\n",
			place{"user@1000.service/wayland-wm@hyprland.desktop.service", []string{"user.slice", "user-1000.slice"}, ""},
		},
		"the user's manager itself": {
			"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
			place{"user@1000.service/init.scope", []string{"user.slice", "user-1000.slice"}, ""},
		},
		"a user's unit with a permitted name": {
			"0::/user.slice/user-1000.slice/user@1000.service/ai.slice/nvidia-persistenced.service\n",
			place{"user@1000.service/nvidia-persistenced.service", []string{"user.slice", "user-1000.slice"}, ""},
		},
		"a delegated group with a permitted name": {
			"0::/system.slice/docker.service/ai.slice/systemd-logind.service\n",
			place{"docker.service", []string{"system.slice"}, ""},
		},
		"a user's scope that looks like a session": {
			"0::/user.slice/user-1000.slice/user@1000.service/app.slice/session-9.scope\n",
			place{"user@1000.service/session-9.scope", []string{"user.slice", "user-1000.slice"}, ""},
		},
		"a pod": {
			"0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-0a.scope\n",
			place{"cri-containerd-0a.scope", []string{"kubepods.slice", "kubepods-besteffort.slice"}, ""},
		},
		"an escaped name": {"0::/system.slice/_cpu.service\n", place{"cpu.service", []string{"system.slice"}, ""}},
		"a group that was removed": {
			"0::/ai.slice/vllm.service (deleted)\n", place{"vllm.service", []string{"ai.slice"}, ""},
		},
		"PID 1":            {"0::/init.scope\n", place{"init.scope", []string{}, ""}},
		"the kernel's own": {"0::/\n", place{"", []string{}, ""}},
		"version 1 beside version 2": {
			"5:cpu,cpuacct:/\n1:name=systemd:/system.slice/greetd.service\n0::/\n",
			place{"greetd.service", []string{"system.slice"}, ""},
		},
		"a container manager's beside systemd": {
			"0::/docker/0a/ai.slice/nvidia-persistenced.service\n", place{"", []string{}, ""},
		},
		"a session whose id is none": {
			"0::/user.slice/user-1000.slice/session-a.b.scope\n",
			place{"session-a.b.scope", []string{"user.slice", "user-1000.slice"}, ""},
		},
		"a session without an id": {"0::/user.slice/session-.scope\n", place{"session-.scope", []string{"user.slice"}, ""}},
		"a unit that is no user's manager": {
			"0::/user.slice/user@1000x.service/init.scope\n", place{"user@1000x.service", []string{"user.slice"}, ""},
		},
		"outside our own namespace": {"0::/../ai.slice/vllm.service\n", place{"", []string{}, ""}},
		"nothing":                   {"", place{"", []string{}, ""}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, placeOf(c.cgroup)) })
	}
}

// FuzzPlace: whatever a cgroup is called, nothing below a user's manager passes
// for a unit or slice of the system.
func FuzzPlace(f *testing.F) {
	f.Add("app.slice/foo.service")
	f.Add("/../ai.slice/nvidia-persistenced.service (deleted)")
	f.Add("_ai.slice\n0::/ai.slice/vllm.service")
	f.Fuzz(func(t *testing.T, below string) {
		below, _, _ = strings.Cut(below, "\n") // the kernel refuses it in a name: cgroup_mkdir
		got := placeOf("0::/user.slice/user-1000.slice/user@1000.service/" + below + "\n")
		require.Equal(t, []string{"user.slice", "user-1000.slice"}, got.slices)
		require.True(t, strings.HasPrefix(got.unit, "user@1000.service"))
		require.Empty(t, got.session)
	})
}

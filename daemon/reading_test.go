package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// readFiles reads what is in the daemon's two directories. Its loop replaces files
// meanwhile: each is read whole, old or new.
func readFiles(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, sub := range []string{"run", "state"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := filepath.Join(sub, e.Name())
			data, err := os.ReadFile(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			files[name] = data
		}
	}
	return files, nil
}

// effects is the state of all that transitions change, by unit, property or session.
type effects map[string]string

func (h *fakeHost) effects() effects {
	now, all := h.clone().now, effects{}
	for name, u := range now.Systemd.Units {
		all[name] = u.ActiveState
		for property, value := range u.Properties {
			all[name+"/"+property] = value
		}
		if kept := now.Saved.Slices[name]; len(kept) > 0 {
			all[name+"/kept"] = fmt.Sprint(kept)
		}
	}
	for _, unit := range now.Saved.Quiesced {
		all[unit+"/quiesced"] = "kept"
	}
	for _, s := range now.Logind.Sessions {
		all["session-"+s.ID+".scope"] = s.User
	}
	return all
}

// diff lists the keys that differ.
func (e effects) diff(other effects) []string {
	var differ []string
	for key := range e {
		if e[key] != other[key] {
			differ = append(differ, key)
		}
	}
	for key := range other {
		if _, there := e[key]; !there && other[key] != "" {
			differ = append(differ, key)
		}
	}
	slices.Sort(differ)
	return slices.Compact(differ)
}

// expectedState is what the host is by docs/architecture.md, without code of
// package observer: the mode that its targets indicate, and its state.
func (h *fakeHost) expectedState() (policy.Mode, observer.State) {
	now, p := h.clone().now, h.policy
	if h.clone().systemdDown {
		return "", "unknown"
	}
	up := func(unit string) bool { return now.Systemd.Units[unit].ActiveState == "active" }
	session, held := len(now.Logind.Sessions) > 0, len(now.Processes.Holders) > 0
	var mode policy.Mode
	var wrong []string
	is := func(want bool, what string, got bool) {
		if want != got {
			wrong = append(wrong, what)
		}
	}
	serving := ""
	for _, unit := range p.VLLMUnits() {
		if up(unit) {
			serving += unit
		}
	}
	switch {
	case now.Systemd.State == "starting":
		return "", "boot"
	case up("compute.target") && (up("desktop.target") || session || held || up("studio-local-policy.service")):
		return policy.Compute, "unknown"
	case up("compute.target"):
		mode = policy.Compute
		is(false, "display manager", up("display-manager.service"))
	case up("desktop.target") && up("studio-local-policy.service"):
		mode = policy.StudioLocal
		is(true, "session", session)
		is(true, "audio priority", up("audio-priority.service"))
		for _, unit := range p.Studio.Quiesce {
			is(false, unit, up(unit) || up(strings.TrimSuffix(unit, ".timer")+".service"))
		}
	case up("desktop.target"):
		mode = policy.Desktop
		is(true, "somebody", session || up("display-manager.service"))
		is(false, "audio priority", up("audio-priority.service"))
	default:
		return "", "unknown"
	}
	contract := map[policy.Mode]policy.Contract{
		"desktop": p.Modes.Desktop, "studio-local": p.Modes.StudioLocal, "compute": p.Modes.Compute,
	}[mode]
	if mode != policy.Compute && p.Audio.Required && session {
		is(false, "audio", h.noAudio)
	}
	switch {
	case !p.VLLM.Enabled && mode == policy.Compute:
	case !p.VLLM.Enabled || contract.VLLMProfile == "off":
		is(true, "vLLM off", serving == "")
	default:
		is(true, "vLLM", serving == p.VLLM.Profiles[contract.VLLMProfile].Unit && now.Inference.Healthy)
	}
	for _, unit := range contract.Required {
		is(true, unit, up(unit))
	}
	for _, unit := range contract.Forbidden {
		is(false, unit, up(unit))
	}
	if len(wrong) > 0 {
		return mode, observer.State("degraded-" + string(mode))
	}
	return mode, observer.State(mode)
}

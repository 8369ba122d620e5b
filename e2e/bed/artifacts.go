package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dubnium/dubnium/e2e/internal/image"
)

const journalScript = "journalctl --boot --output=short-precise --no-pager"

// evidence is what a machine can tell when a test fails: file names and the scripts that fill them.
var evidence = []struct{ file, script string }{
	{"journal.txt", journalScript},
	{
		"units.txt",
		"systemctl list-units --all --full --no-pager; systemctl list-jobs --no-pager; systemctl --failed --no-pager",
	},
	{"sessions.txt", "loginctl list-sessions; for s in $(loginctl list-sessions --no-legend | awk '{print $1}'); do " +
		"echo; loginctl show-session $s; done; fuser --verbose /dev/dri/* /dev/snd/* 2>&1"},
	{"processes.txt", "ps -e -ww --forest -o pid,ppid,user,stat,etime,rss,cgroup:60,args"},
	{"audio.txt", "runuser -u " + User + " -- env XDG_RUNTIME_DIR=/run/user/1000 timeout 5 pactl list short 2>&1"},
	{"dubnium.txt", "ls -lR /run/mode-controller /var/lib/mode-controller 2>&1; " +
		"find /run/mode-controller /var/lib/mode-controller /run/dubnium -type f -size -1024k 2>/dev/null | " +
		"while read -r f; do printf '\\n=== %s\\n' \"$f\"; cat \"$f\"; done"},
}

// Collect writes what the machine can tell into a directory. It writes what it can and returns what it could not.
func (v *VM) Collect(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot collect evidence: %w", err)
	}
	var failures []error
	keep := func(name string, body []byte, err error) {
		if len(body) > 0 {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), body, 0o644))
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("cannot collect %s: %w", name, err))
		}
	}
	console, err := os.ReadFile(v.console)
	keep(consoleName, console, err)
	keep("journal-earlier-boots.txt", v.earlier, nil)
	if err := v.process.Err(); err != nil {
		failures = append(failures, err)
		return errors.Join(failures...)
	}
	for _, e := range evidence {
		out, err := v.Exec(ctx, Script(e.script))
		keep(e.file, []byte(out.Both), err)
	}
	bus, err := v.Get(ctx, image.BusLog)
	keep("bus.jsonl", bus, err)
	return errors.Join(failures...)
}

// testify collects under a test's name and says where. The test's own context may be over.
func (v *VM) testify(say Say, test string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	dir, err := artifactsDir(test)
	if err != nil {
		return err
	}
	say("what the machine can tell is in %s", dir)
	return v.Collect(ctx, dir)
}

// artifactsDir is where a test's evidence goes: e2e/artifacts/NAME, or under E2E_ARTIFACTS.
func artifactsDir(test string) (string, error) {
	base := os.Getenv("E2E_ARTIFACTS")
	if base == "" {
		root, err := image.SourceRoot()
		if err != nil {
			return "", err
		}
		base = filepath.Join(root, "e2e", "artifacts")
	}
	return filepath.Join(base, fileName(test)), nil
}

// fileName keeps what is harmless in a file's name. The slash between a test and its subtest stays a directory.
func fileName(test string) string {
	parts := strings.Split(test, "/")
	for i, part := range parts {
		parts[i] = strings.Map(func(r rune) rune {
			if strings.ContainsRune(`:*?"<>|\ `, r) || r < ' ' {
				return '_'
			}
			return r
		}, part)
		if strings.Trim(parts[i], ".") == "" {
			parts[i] = "_"
		}
	}
	return filepath.Join(parts...)
}

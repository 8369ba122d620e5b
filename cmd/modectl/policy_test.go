package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/policy"
)

func policyFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestPolicyCheckNeedsNoDaemon(t *testing.T) {
	good := policyFile(t, `transitions = "all"`)
	require.Equal(t, ran{exitOK, good + ": valid\n", ""}, modectl(t.Context(), "policy", "check", good))
	require.Equal(t, ran{exitOK, "[]\n", ""}, modectl(t.Context(), "policy", "check", "--json", good))

	bad := policyFile(t, "colour = 1\n[vllm]\nenabled = \"yes\"")
	lines := bad + ":1:1: unknown key colour\n" +
		bad + ":3:11: vllm.enabled: expected true or false, found the string \"yes\"\n"
	require.Equal(t, ran{exitMisuse, lines, ""}, modectl(t.Context(), "policy", "check", bad))
	require.Equal(t, ran{exitMisuse, lines, ""}, modectl(t.Context(), "policy", "diff", bad))
	r := modectl(t.Context(), "policy", "check", "--json", bad)
	var findings []policy.Finding
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &findings))
	require.Equal(t, exitMisuse, r.code)
	require.Equal(t, policy.Finding{File: bad, Line: 1, Column: 1, Key: "colour", Text: "unknown key"}, findings[0])
}

func TestPolicyShowAndDiffGoByTheDaemons(t *testing.T) {
	serve(t, &engine{}, authorizer{uid: 1000})
	shown := modectl(t.Context(), "policy", "show")
	require.Equal(t, exitOK, shown.code, shown.stderr)
	require.Contains(t, shown.stdout, "transitions = \"observe\" # default\n")
	p, err := policy.Parse("shown", []byte(shown.stdout))
	require.NoError(t, err)
	require.Equal(t, policy.Default(), p)

	file := policyFile(t, "# trusted\ntransitions = \"all\"\n")
	require.Equal(t, ran{exitOK, "- transitions = \"observe\" # default\n+ transitions = \"all\" # " + file + ":2\n", ""},
		modectl(t.Context(), "policy", "diff", file))
	require.Equal(t, ran{exitOK, "[]\n", ""}, modectl(t.Context(), "policy", "diff", "--json", policyFile(t, "")))
}

func TestPolicyInitIsAPolicy(t *testing.T) {
	serve(t, &engine{}, authorizer{})
	r := modectl(t.Context(), "policy", "init")
	require.Equal(t, exitOK, r.code, r.stderr)
	_, err := policy.Parse("init", []byte(r.stdout))
	require.NoError(t, err, r.stdout)
	r = modectl(t.Context(), "policy", "init", "--json")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.True(t, json.Valid([]byte(r.stdout)), r.stdout)
	require.Contains(t, modectl(t.Context(), "policy", "init", "--nix").stdout, "transitions = \"observe\";")
}

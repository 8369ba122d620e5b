#!/bin/sh
# lint.sh - format, vet, staticcheck, known vulnerabilities.
set -eu
tool="go tool -modfile=internal/tools/go.mod"
unformatted=$($tool gofumpt -l .)
if [ -n "$unformatted" ]; then
	printf 'not formatted, run make fmt:\n%s\n' "$unformatted" >&2
	exit 1
fi
# The tags choose files: these sets have all of them but a constant for -race.
faulty="./internal/fault ./internal/embedded ./daemon/..."
go vet -tags e2e,integration,soak,dfuzzer ./...
go vet -tags e2e ./e2e
go vet -tags faultpoints $faulty
$tool staticcheck -tags e2e,integration,soak,dfuzzer ./...
$tool staticcheck -tags faultpoints $faulty
go mod verify >/dev/null
if ! found=$($tool govulncheck ./... 2>&1); then
	case $found in
	*"fetching vulnerabilities"*"no such host"* | *"fetching vulnerabilities"*"network is unreachable"*)
		# Any other failure to fetch is one: where there is a network the check has to run.
		echo "govulncheck: NOT RUN, there is no network here" >&2
		;;
	*)
		echo "$found" >&2
		exit 1
		;;
	esac
fi

#!/bin/sh
# Everything that `make test` does, in order. What could not be done on this machine is
# named at the end, never silently passed over.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
notes=$(mktemp)
trap 'rm -f "$notes"' EXIT

sh test/setup.sh

echo "== format, vet, staticcheck"
make --no-print-directory check GO="$GO"

echo "== govulncheck"
# The list of vulnerabilities lies on a server: where it is out of reach, that is no
# fault of this code. A found vulnerability is.
if out=$(timeout 300 make --no-print-directory vulncheck GO="$GO" 2>&1); then
	echo "no known vulnerability is called"
elif echo "$out" | grep -q 'Vulnerability #'; then
	echo "$out"
	exit 1
else
	echo "govulncheck: the list of vulnerabilities could not be reached" >>"$notes"
fi

echo "== the tests, with the race detector"
# One package at a time builds, two run: the end-to-end tests want the machine to themselves.
status=0
MXWARD_TEST=all "$GO" run ./test/report -notes "$notes" -- "$GO" test -race -json -timeout 20m ./... || status=$?
exit $status

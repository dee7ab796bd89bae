package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What Debian's zonemaster-cli says about the animals of the zoo is kept in a file, so that the
// comparison (peers_table_test.go) needs neither root nor Zonemaster; TestZonemaster holds the
// file against the program.
const (
	peersFile = "testdata/zonemaster.txt"
	peersHead = "# What Zonemaster says, from NOTICE on; UPDATE=1 go test -run TestZonemaster ./internal/audit, as root, writes it anew.\n"
	zooHints  = ". 3600000 NS ns.root.example.\nns.root.example. 3600000 A " + rootAt + "\n"
	// zoneProfile: in a network where nothing gets lost, asking once will do.
	zoneProfile = `{"resolver": {"defaults": {"retry": 1, "timeout": 4}}}`
)

// compared are the animals of the areas that Zonemaster speaks of. It asks from the root down,
// so what is wrong with a resolver or with this host is not to be seen by it.
func compared() []animal {
	all := slices.Concat(resolverZoo(), delegationZoo(), soaZoo(), mxZoo(), ptrZoo(), dnssecZoo(), peersZoo())
	return slices.DeleteFunc(all, func(a animal) bool { return a.forwarded || a.alone || a.dark || a.credulous })
}

func TestZonemaster(t *testing.T) {
	if os.Getenv("MXWARD_TEST") != "all" && os.Getenv("UPDATE") == "" {
		t.Skip("left out: asking Zonemaster takes a minute or two (MXWARD_TEST=all)")
	}
	if os.Getuid() != 0 {
		t.Skip("left out: Zonemaster is asked in network namespaces, which need root")
	}
	for _, program := range []string{"zonemaster-cli", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("left out: needs Debian's %s (sh test/setup.sh)", program)
		}
	}
	kept, said := readPeers(t), map[string]string{}
	var mu sync.Mutex
	t.Run("zoo", func(t *testing.T) {
		for _, a := range compared() {
			t.Run(a.why, func(t *testing.T) {
				t.Parallel()
				tags, err := a.zonemaster(t)
				if err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				said[a.why] = tags
				if want := strings.Join(kept[a.why], " "); want != tags && os.Getenv("UPDATE") == "" {
					t.Errorf("Zonemaster says something else than %s (UPDATE=1 writes it anew):\ngot  %s\nwant %s", peersFile, tags, want)
				}
			})
		}
	})
	if os.Getenv("UPDATE") == "" {
		return
	}
	text := peersHead
	for _, a := range compared() { // those that were not asked now stay as they are
		tags, asked := said[a.why]
		if !asked {
			tags = strings.Join(kept[a.why], " ")
		}
		if tags != "" {
			text += a.why + ": " + tags + "\n"
		}
	}
	if err := os.WriteFile(peersFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// firstDifference gives the first lines that are not the same.
func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("want %s\ngot  %s", a[i], b[i])
		}
	}
	return "one has more lines"
}

// zonemaster gives the tags of its messages about an animal, each once.
func (a animal) zonemaster(t *testing.T) (string, error) {
	dir := t.TempDir()
	hints, profile := filepath.Join(dir, "hints"), filepath.Join(dir, "profile.json")
	for file, text := range map[string]string{hints: zooHints, profile: zoneProfile} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	var out []byte
	err := a.outside(t, func() (err error) {
		out, err = exec.CommandContext(t.Context(), "zonemaster-cli", "--hints", hints, "--profile", profile,
			"--level", "NOTICE", "--json", "--raw", cmp.Or(a.domain, "example.com")).Output()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	_, list, _ := strings.Cut(string(out), "[") // the first line names the profile
	var messages []struct {
		Tag  string
		Args struct{ Name string }
	}
	if err := json.Unmarshal([]byte("["+list), &messages); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	var tags []string
	for _, m := range messages {
		if m.Tag == "NAMESERVER_IP_PRIVATE_NETWORK" && strings.HasPrefix(m.Args.Name, "Documentation") {
			continue // the whole zoo lives at such addresses
		}
		tags = append(tags, m.Tag)
	}
	slices.Sort(tags)
	return strings.Join(slices.Compact(tags), " "), nil
}

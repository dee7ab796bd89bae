package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

// Load reads the plan in a file, and checks it against the files that it names: they must
// be there, and what the zone files say must be what the plan says. Relative paths in the
// plan are taken from its folder. The error is Errors: all mistakes at once.
func Load(path string) (*Plan, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	d := parseDraft(text, path)
	if !d.broken {
		d.resolvePaths(filepath.Dir(path))
		d.checkFiles()
		d.checkZones()
	}
	return d.finish()
}

func unreadable(path string, err error) Errors {
	return Errors{{Kind: Unreadable, File: path, Expected: "a plan that can be read", Got: cause(err), Hint: "mxward.toml(5) has an example"}}
}

// readFile reads a little more than the largest plan, for Parse to notice.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxText+1))
}

// cause leaves out the path, which stands in the message already.
func cause(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return err.Error()
}

// namedFile is a file that the plan names.
type namedFile struct {
	at   place
	name *string
}

func (d *draft) paths() []namedFile {
	all := []namedFile{{atKey("resolver", "root-hints"), &d.Resolver.RootHints}}
	all = append(all, namedFile{atKey("mta-sts", "cert"), &d.MTASTS.Cert}, namedFile{atKey("mta-sts", "key"), &d.MTASTS.Key}, namedFile{atKey("reports", "dkim-key"), &d.Reports.DKIMKey}, namedFile{atKey("watch", "baseline"), &d.Watch.Baseline})
	for i := range d.Hosts {
		all = append(all, namedFile{atHost(i, "cert"), &d.Hosts[i].Cert}, namedFile{atHost(i, "key"), &d.Hosts[i].Key})
	}
	for i := range d.DNS.Zones {
		all = append(all, namedFile{atZone(i, "file"), &d.DNS.Zones[i].File})
	}
	return slices.DeleteFunc(all, func(p namedFile) bool { return *p.name == "" })
}

// resolvePaths makes relative paths begin at the plan's folder, so that they mean the same
// wherever mxward is started.
func (d *draft) resolvePaths(folder string) {
	from := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(folder, name)
	}
	for _, p := range d.paths() {
		*p.name = from(*p.name)
	}
	if file, ok := strings.CutPrefix(d.Store, "sqlite:"); ok {
		d.Store = "sqlite:" + from(file)
	}
	for i := range d.Domains {
		d.Domains[i].Deliver.Path = from(d.Domains[i].Deliver.Path)
	}
}

// checkFiles looks whether the files are there. They are opened by those who use them.
func (d *draft) checkFiles() {
	for _, p := range d.paths() {
		info, err := os.Stat(*p.name)
		got := quote(*p.name) + ", which is no file"
		switch {
		case err != nil:
			got = quote(*p.name) + ": " + cause(err)
		case info.Mode().IsRegular():
			continue
		}
		d.fail(FileMissing, p.at, "a file that can be read", got, "relative paths begin at the folder of the plan")
		d.bad[p.at] = true
	}
}

// served is a zone of the plan whose file could be read.
type served struct {
	*zone.Zone
	name dns.Name
	file string
}

// checkZones reads the zone files, and compares them with the plan.
func (d *draft) checkZones() {
	var zones []served
	for i, z := range d.DNS.Zones {
		if !d.good(atZone(i, "file")) || !d.good(atZone(i, "name")) {
			continue
		}
		if parsed, ok := d.parseZone(z, atZone(i, "file")); ok {
			zones = append(zones, served{parsed, z.Name, z.File})
		}
	}
	for i, dom := range d.Domains {
		if z, ok := nearestZone(zones, dom.Name); ok && len(dom.Ladder) > 0 {
			d.compareMX(z, i)
		}
	}
	for i, dom := range d.Domains {
		if z, ok := nearestZone(zones, dom.Name); ok {
			d.compareSPF(z, i)
		}
	}
	for i, h := range d.Hosts {
		if z, ok := nearestZone(zones, h.Name); ok && d.good(atHost(i, "addresses")) {
			d.compareAddresses(z, i)
		}
	}
	hosts := d.hostOf()
	d.rungs(func(i, j int, r Rung) {
		h, known := hosts[r.Host]
		if z, ok := nearestZone(zones, r.Host); ok && known && h.Alias.IsZero() { // else reported already
			d.checkZoneAlias(z, atRung(i, j, "host"), r.Host)
		}
	})
}

// parseZone reads a zone file. Its mistakes stand beside the plan's, with lines of their own.
func (d *draft) parseZone(z Zone, at place) (*zone.Zone, bool) {
	f, err := os.Open(z.File)
	if err != nil {
		d.fail(FileMissing, at, "a file that can be read", quote(z.File)+": "+cause(err), "")
		return nil, false
	}
	defer f.Close()
	parsed, err := zone.Parse(f, z.Name, z.File)
	if err == nil {
		return parsed, true
	}
	for text := range strings.Lines(err.Error()) {
		text = strings.TrimSpace(text)
		if !strings.HasPrefix(text, z.File+":") {
			text = z.File + ": " + text
		}
		d.errs = append(d.errs, &Error{Kind: ZoneFault, File: z.File, Text: text})
	}
	return nil, false
}

// nearestZone gives the zone with the longest name that holds this one.
func nearestZone(zones []served, name dns.Name) (served, bool) {
	var best served
	for _, z := range zones {
		if !name.IsZero() && name.In(z.name) && (best.Zone == nil || z.name.In(best.name)) {
			best = z
		}
	}
	return best, best.Zone != nil
}

// says reports whether the zone itself has the say on a name: names below a delegation
// belong to others.
func (z served) says(name dns.Name) bool {
	a, err := z.Resolve(context.Background(), dns.Question{Name: name, Type: dns.TypeMX})
	return err == nil && a.Authoritative
}

// compareMX wants the zone's MX records to be the ladder. Where all our rungs are backups,
// the better ones are somebody else's.
func (d *draft) compareMX(z served, i int) {
	dom := d.Domains[i]
	set, err := dns.LookupMX(context.Background(), z, dom.Name)
	if err != nil || !z.says(dom.Name) {
		return
	}
	at := atRung(i, 0, "")
	if slices.ContainsFunc(set.Records, func(mx dns.MX) bool { return mx.Host == dns.Root }) {
		d.fail(ZoneNullMX, at, "MX records for "+quoteName(dom.Name)+" in "+z.file, "a null MX, which says that it takes no mail (RFC 7505)",
			"take the domain out of the plan, or the null MX out of the zone")
		return
	}
	best := -1
	var plan []dns.MX
	for j, r := range dom.Ladder {
		if !d.good(atRung(i, j, "preference")) || !d.good(atRung(i, j, "host")) {
			return
		}
		plan = append(plan, dns.MX{Preference: r.Preference, Host: r.Host})
		if best < 0 || int(r.Preference) < best {
			best = int(r.Preference)
		}
	}
	foreign := func(mx dns.MX) bool {
		return !dom.has(Gate) && int(mx.Preference) < best && !slices.Contains(plan, mx)
	}
	live := slices.DeleteFunc(slices.Clone(set.Records), foreign)
	slices.SortFunc(plan, byPreference)
	if !slices.Equal(plan, live) {
		d.fail(ZoneMXDiffers, at, fmt.Sprintf("the MX records of %s in %s (%s)", quoteName(dom.Name), z.file, list(set.Records, showMX)),
			list(plan, showMX), "let the plan and the zone say the same")
	}
}

func byPreference(a, b dns.MX) int {
	if a.Preference != b.Preference {
		return int(a.Preference) - int(b.Preference)
	}
	return strings.Compare(a.Host.String(), b.Host.String())
}

func showMX(mx dns.MX) string { return fmt.Sprintf("%d %s", mx.Preference, mx.Host) }

// list shows values in one line.
func list[T any](values []T, show func(T) string) string {
	if len(values) == 0 {
		return "none"
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = show(v)
	}
	return strings.Join(texts, ", ")
}

// compareAddresses wants the zone's A and AAAA records of a host to be its addresses.
func (d *draft) compareAddresses(z served, i int) {
	h := d.Hosts[i]
	set, err := dns.LookupAddrs(context.Background(), z, h.Name)
	if err != nil || len(set.Aliases) > 0 || !z.says(h.Name) {
		return
	}
	live, plan := slices.Clone(set.Records), slices.Clone(h.Addresses)
	slices.SortFunc(live, netip.Addr.Compare)
	slices.SortFunc(plan, netip.Addr.Compare)
	if !slices.Equal(plan, live) {
		d.fail(ZoneAddrsDiffer, atHost(i, "addresses"),
			fmt.Sprintf("the addresses of %s in %s (%s)", quoteName(h.Name), z.file, list(live, netip.Addr.String)),
			list(plan, netip.Addr.String), "let the plan and the zone say the same")
	}
}

// checkZoneAlias: as checkMXIsAlias, for what only the zone tells.
func (d *draft) checkZoneAlias(z served, at place, host dns.Name) {
	set, err := dns.LookupAddrs(context.Background(), z, host)
	if err == nil && len(set.Aliases) > 0 {
		d.fail(MXIsAlias, at, "a host with addresses of its own",
			fmt.Sprintf("%s, which %s makes a CNAME for %s", quoteName(host), z.file, quoteName(set.Canonical)), "give it A and AAAA records in the zone")
	}
}

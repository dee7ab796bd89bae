package audit

import (
	"context"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/lint"
	"mxward/internal/mailauth/spf"
)

// sender is somebody who sends mail for others, by the names that show it.
type sender struct {
	provider string   // of dkim.Providers, which has the selectors
	includes []string // of SPF: the domain itself or below it
	hosts    []string // MX hosts below these
}

// senders say from what a domain's provider can be told. At each line stands whose instructions
// for customers the names are from; a provider may change them, and then some questions are
// asked for nothing, or a key is not found: no finding comes of either. Providers that make up a
// selector for each customer are not here, for there is nothing to guess: Amazon SES,
// Proofpoint, Mimecast, Postmark, SparkPost, Salesforce.
var senders = [...]sender{
	{"Google Workspace", []string{"_spf.google.com"}, []string{"google.com", "googlemail.com"}},                          // support.google.com/a/answer/174124
	{"Microsoft 365", []string{"spf.protection.outlook.com"}, []string{"mail.protection.outlook.com", "mx.microsoft"}},   // learn.microsoft.com: email-authentication-dkim-configure
	{"Fastmail", []string{"spf.messagingengine.com"}, []string{"messagingengine.com"}},                                   // fastmail.help: manual DNS
	{"Proton Mail", []string{"_spf.protonmail.ch"}, []string{"protonmail.ch"}},                                           // proton.me/support/custom-domain
	{"iCloud Mail", []string{"icloud.com"}, []string{"mail.icloud.com"}},                                                 // support.apple.com/102374
	{"Zoho Mail", []string{"zoho.com", "zoho.eu", "zohomail.com", "zohomail.eu"}, []string{"zoho.com", "zoho.eu"}},       // zoho.com/mail/help: DKIM
	{"Yandex 360", []string{"_spf.yandex.net", "_spf.yandex.ru"}, []string{"mx.yandex.net", "mx.yandex.ru"}},             // yandex.com/support: DKIM
	{"VK WorkSpace (Mail.ru)", []string{"_spf.mail.ru"}, []string{"emx.mail.ru"}},                                        // biz.mail.ru/docs
	{"Migadu", []string{"spf.migadu.com"}, []string{"migadu.com"}},                                                       // migadu.com/guides/dns
	{"mailbox.org", []string{"mailbox.org"}, []string{"mailbox.org"}},                                                    // kb.mailbox.org: own domains
	{"Tuta", []string{"spf.tutanota.de"}, []string{"tutanota.de"}},                                                       // tuta.com/support: custom domains
	{"Gandi", []string{"_mailcust.gandi.net"}, []string{"mail.gandi.net"}},                                               // docs.gandi.net: DKIM
	{"IONOS", []string{"_spf-eu.ionos.com", "_spf-us.ionos.com", "_spf.perfora.net"}, []string{"ionos.com", "ionos.de"}}, // ionos.com/help: DKIM
	{"Hostinger", []string{"_spf.mail.hostinger.com"}, []string{"hostinger.com"}},                                        // support.hostinger.com: DNS of mail
	{"Titan", []string{"spf.titan.email"}, []string{"titan.email"}},                                                      // support.titan.email: DKIM
	{"SendGrid", []string{"sendgrid.net"}, nil},                                                                          // docs.sendgrid.com: domain authentication
	{"Mailgun", []string{"mailgun.org"}, []string{"mailgun.org"}},                                                        // documentation.mailgun.com: domains
	{"Mailchimp", []string{"servers.mcsv.net"}, nil},                                                                     // mailchimp.com/help: domain authentication
	{"Mandrill", []string{"spf.mandrillapp.com"}, nil},                                                                   // mailchimp.com/developer: sending domains
	{"Mailjet", []string{"spf.mailjet.com"}, nil},                                                                        // documentation.mailjet.com: SPF and DKIM
	{"Brevo", []string{"spf.sendinblue.com", "spf.brevo.com"}, nil},                                                      // help.brevo.com: authenticate a domain
	{"HubSpot", []string{"hubspotemail.net"}, nil},                                                                       // knowledge.hubspot.com: email authentication
	{"Zendesk", []string{"mail.zendesk.com"}, nil},                                                                       // support.zendesk.com: DKIM
	{"Freshdesk", []string{"email.freshdesk.com", "freshemail.io"}, nil},                                                 // support.freshdesk.com: DKIM
	{"Help Scout", []string{"helpscoutemail.com"}, nil},                                                                  // docs.helpscout.com: DKIM
	{"ActiveCampaign", []string{"emsd1.com"}, nil},                                                                       // help.activecampaign.com: DKIM
	{"Constant Contact", []string{"spf.constantcontact.com"}, nil},                                                       // knowledgebase.constantcontact.com: self-authentication
	{"Campaign Monitor", []string{"_spf.createsend.com"}, nil},                                                           // help.campaignmonitor.com: authentication
	{"MailerLite", []string{"_spf.mlsend.com"}, nil},                                                                     // mailerlite.com/help: domain authentication
}

// maxGuessed is how many selectors are guessed; ours.
const maxGuessed = 12

// guesses gives the selectors of those who, as it seems, send for the domain.
func guesses(tree *spf.Tree, hosts []Host) []string {
	included := includes(tree)
	var out []string
	for _, s := range senders {
		of := func(name dns.Name, suffixes []string) bool {
			return slices.ContainsFunc(suffixes, func(suffix string) bool { return name.In(dns.NameOf(suffix)) })
		}
		if !slices.ContainsFunc(included, func(n dns.Name) bool { return of(n, s.includes) }) &&
			!slices.ContainsFunc(hosts, func(h Host) bool { return of(h.Name, s.hosts) }) {
			continue
		}
		for _, p := range dkim.Providers() {
			if p.Name == s.provider {
				out = append(out, p.Selectors...)
			}
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(maxGuessed, len(out))]
}

// includes gives the domains that a policy includes or redirects to, itself and those below.
func includes(tree *spf.Tree) (all []dns.Name) {
	if tree == nil {
		return nil
	}
	for _, b := range tree.Branches {
		if b.Term.Name != "include" && b.Term.Name != "redirect" {
			continue
		}
		if name, err := dns.ParseName(string(b.Term.Domain)); err == nil {
			all = append(all, name)
		}
		all = append(all, includes(b.Tree)...)
	}
	return all
}

// guess looks at the selectors of the domain's providers. What is not there was never said to
// be, and what could not be asked is left out too.
func (g *gatherer) guess(ctx context.Context) {
	names := guesses(g.facts.SPF, g.facts.Hosts)
	there := make([]bool, len(names))
	do := make([]func(context.Context), len(names))
	for i, name := range names {
		do[i] = func(ctx context.Context) {
			key, err := dkim.KeyName(name, g.facts.Domain)
			if err != nil {
				return
			}
			set, err := dns.LookupTXT(ctx, g.rec, key)
			there[i] = err == nil && len(set.Records)+len(set.Aliases) > 0
		}
	}
	g.all(ctx, do...)
	for i, name := range names {
		known := slices.ContainsFunc(g.facts.DKIM, func(s Selector) bool { return strings.EqualFold(s.Name, name) && s.At == g.facts.Domain })
		if there[i] && !known {
			s := g.selector(ctx, wanted{name, g.facts.Domain})
			s.Guessed = true
			g.facts.DKIM = append(g.facts.DKIM, s)
		}
	}
}

// wanted is one selector to look at.
type wanted struct {
	name string
	at   dns.Name
}

// selectors gives those that the flags, the plan and the message name, each once. The flags
// come first, and no more than MaxSelectors are looked at.
func (g *gatherer) selectors() (all []wanted) {
	add := func(name string, at dns.Name) {
		if len(all) < MaxSelectors && !slices.ContainsFunc(all, func(w wanted) bool { return strings.EqualFold(w.name, name) && w.at == at }) {
			all = append(all, wanted{name, at})
		}
	}
	for _, name := range g.Selectors {
		add(name, g.facts.Domain)
	}
	for _, name := range g.facts.Plan.selectors() {
		add(name, g.facts.Domain)
	}
	if g.Message != nil {
		for _, s := range g.Message.Signatures {
			// A signature of strangers is their matter.
			if s.Domain.In(g.facts.Domain) || g.facts.Domain.In(s.Domain) {
				add(s.Selector, s.Domain)
			}
		}
	}
	return all
}

func (g *gatherer) selector(ctx context.Context, w wanted) Selector {
	s := Selector{Name: w.name, At: w.at}
	s.Survey, s.Err = dkim.Look(ctx, g.rec, w.name, w.at)
	return s
}

// found gives the findings of a selector. One that was only guessed is never missing.
func (s Selector) found() []lint.Finding {
	if s.Guessed && len(s.Survey.Records) == 0 {
		return nil
	}
	return s.Survey.Findings
}

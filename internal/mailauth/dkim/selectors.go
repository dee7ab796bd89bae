package dkim

// Provider is somebody who signs mail for others, with selectors of fixed names.
type Provider struct {
	Name      string
	Selectors []string
}

// Providers lists the selectors worth trying where nothing tells which a domain uses. Keys
// cannot be enumerated: that none of these exists says nothing (RFC 6376 §3.1 leaves the
// names to the signer). Providers that make up a name for each customer or month, as Amazon
// SES, Mailgun's newer domains and Postmark do, cannot be listed.
func Providers() []Provider {
	return []Provider{
		{"Google Workspace", []string{"google"}},
		{"Microsoft 365", []string{"selector1", "selector2"}},
		{"opendkim, cPanel, Plesk, iRedMail and by hand", []string{"default", "mail", "dkim", "mx", "smtp", "key1", "s1", "s2", "email"}},
		{"DirectAdmin", []string{"x"}},
		{"Fastmail", []string{"fm1", "fm2", "fm3", "mesmtp"}},
		{"Proton Mail", []string{"protonmail", "protonmail2", "protonmail3"}},
		{"iCloud Mail", []string{"sig1"}},
		{"Zoho Mail", []string{"zoho", "zmail"}},
		{"Yandex 360", []string{"mail"}},
		{"VK WorkSpace (Mail.ru)", []string{"mailru"}},
		{"Migadu", []string{"key1", "key2", "key3"}},
		{"mailbox.org", []string{"MBO0001", "MBO0002", "MBO0003", "MBO0004"}},
		{"Tuta", []string{"s1", "s2"}},
		{"Gandi", []string{"gm1", "gm2", "gm3"}},
		{"IONOS", []string{"s1-ionos", "s2-ionos"}},
		{"Hostinger", []string{"hostingermail-a", "hostingermail-b", "hostingermail-c"}},
		{"Titan", []string{"titan1", "titan2"}},
		{"SendGrid", []string{"s1", "s2", "m1", "smtpapi"}},
		{"Mailgun", []string{"mailo", "k1", "mx", "smtp", "pic"}},
		{"Mailchimp", []string{"k1", "k2", "k3"}},
		{"Mandrill", []string{"mandrill", "mte1", "mte2"}},
		{"Mailjet", []string{"mailjet"}},
		{"Brevo", []string{"mail", "brevo1", "brevo2"}},
		{"HubSpot", []string{"hs1", "hs2"}},
		{"Zendesk", []string{"zendesk1", "zendesk2"}},
		{"Freshdesk", []string{"fd", "fd2", "fdm"}},
		{"Help Scout", []string{"strong1", "strong2"}},
		{"Intercom", []string{"intercom"}},
		{"Klaviyo", []string{"kl", "kl2"}},
		{"ActiveCampaign", []string{"dk", "acdkim1", "acdkim2"}},
		{"Kit (ConvertKit)", []string{"cka", "cka2"}},
		{"Constant Contact", []string{"ctct1", "ctct2"}},
		{"Campaign Monitor", []string{"cm"}},
		{"MailerLite", []string{"ml", "litesrv"}},
		{"Everlytic", []string{"everlytickey1", "everlytickey2", "eversrv"}},
		{"Resend", []string{"resend"}},
		{"Mailtrap", []string{"rwmt1", "rwmt2"}},
		{"MxVault", []string{"mxvault"}},
	}
}

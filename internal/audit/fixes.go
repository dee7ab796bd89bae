package audit

// ownResolver is what helps with most of what is wrong with another resolver.
const ownResolver = "ask whoever runs it, or give the mail host a validating resolver of its own"

// usualFix says how to mend what the rooms of the mail standards find, where they leave it to
// whoever shows it.
func usualFix(id string) string {
	switch id {
	case "spf.syntax":
		return "correct it: to receivers one mistake makes the whole record void"
	case "spf.lookups-near":
		return "name networks (ip4, ip6) in place of names whose addresses do not change, before somebody's include grows"
	case "dmarc.unknown-tag":
		return "drop the tag, or correct its name"
	case "dmarc.walk-differs-psl":
		return "if that is not meant so, publish a record with psd=n at the organizational domain"
	case "dkim.missing":
		return "publish the signer's public key there (mxward dkim key makes a pair), or let it sign by a selector that is there"
	case "dkim.multiple-records":
		return "leave the key alone there"
	case "dkim.syntax", "dkim.key-malformed":
		return "publish the record anew as the signer printed it, in several strings where it has more than 255 octets"
	case "dkim.key-too-short", "dkim.key-weak", "dkim.key-long":
		return "make an RSA key with 2048 bits at a new selector, sign with it, and take the old one back a week later"
	case "dkim.private-key":
		return "take it back at once, and make a new key at a new selector: whoever has seen it can sign for the domain"
	case "dkim.sha1-only":
		return "leave h= out, and sign with rsa-sha256"
	case "dkim.testing":
		return "leave t=y out once all works"
	case "dkim.unusable-service":
		return "leave s= out"
	case "dkim.unknown-type":
		return "write k=rsa or k=ed25519, as the key is"
	case "dkim.obsolete-tag":
		return "leave the tag out"
	case "dane.digest-passed-over":
		return "use one digest for all the records of a host, such as 3 1 1"
	case "dane.hosts-left-out":
		return "name fewer MX hosts; the first ones are those that senders try first"
	case "bimi.syntax":
		return "write v=BIMI1; l= and a= with https URLs, or both empty"
	case "bimi.svg-location":
		return "serve the image as SVG Tiny PS, at a URL that ends so"
	case "bimi.cert-missing":
		return "get a mark certificate (VMC or CMC) and name its URL in a="
	case "mtasts.txt-missing":
		return "serve a policy in testing mode and publish its record, unless the hosts have DANE"
	case "mtasts.status":
		return "let the web server answer 200 with the policy at /.well-known/mta-sts.txt"
	case "mtasts.too-large":
		return "serve the policy alone: some lines of plain text"
	case "mtasts.pattern-unused":
		return "drop the line, unless the host is to be an MX host soon"
	case "mtasts.max-age-range":
		return "write a number of seconds, such as 604800 for a week; 31557600 is the most"
	}
	return ""
}

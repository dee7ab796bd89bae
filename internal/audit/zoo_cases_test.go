package audit

// zoo gives all animals, area by area.
func zoo() []animal {
	var all []animal
	for _, area := range [][]animal{
		resolverZoo(), delegationZoo(), soaZoo(), mxZoo(), ptrZoo(), spfZoo(), dmarcZoo(), dkimZoo(), mtastsZoo(), tlsZoo(), dnssecZoo(), otherZoo(),
		zoneZoo(), autoconfZoo(), acmeZoo(), listZoo(), ourSideZoo(), splitZoo(), moreZoo(), defectsZoo(), peersZoo(), smtpZoo(),
		profileZoo(), messageZoo(), providerZoo(), planZoo(), doubtZoo(), owedZoo(), pageZoo(), sourcesZoo(),
	} {
		all = append(all, area...)
	}
	return all
}

package audit

// zoo gives all animals, area by area.
func zoo() []animal {
	var all []animal
	for _, area := range [][]animal{resolverZoo(), delegationZoo(), soaZoo(), mxZoo(), ptrZoo(), spfZoo(), dmarcZoo(), dkimZoo(), mtastsZoo(), tlsZoo(), dnssecZoo(), otherZoo(), peersZoo()} {
		all = append(all, area...)
	}
	return all
}

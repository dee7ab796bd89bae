package audit

// zoo gives all animals, area by area.
func zoo() []animal {
	var all []animal
	for _, area := range [][]animal{resolverZoo(), delegationZoo(), soaZoo(), mxZoo(), ptrZoo()} {
		all = append(all, area...)
	}
	return all
}

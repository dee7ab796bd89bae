package dns

import "testing"

// Every trouble has words for people and one for programs.
func TestTroubles(t *testing.T) {
	seen := map[string]bool{"other": true}
	for trouble := range troubleTexts {
		if id := trouble.ID(); seen[id] || trouble.String() == "" {
			t.Errorf("trouble %d is called %q and %q", trouble, id, trouble)
		} else {
			seen[id] = true
		}
	}
	for _, tt := range []struct {
		e    Error
		want uint16
	}{
		{Error{Trouble: Bogus, Extended: 7}, 7}, // its own counts
		{Error{Trouble: Bogus}, 6},
		{Error{Trouble: NoReply}, 22},
		{Error{Trouble: BrokenDelegation}, 22},
		{Error{Trouble: NoNetwork}, 23},
		{Error{Trouble: Malformed}, 23},
		{Error{Trouble: WorkLimit}, 0},
	} {
		if got := tt.e.ExtendedError(); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.e.Trouble, got, tt.want)
		}
	}
	if len(troubleIDs) != len(troubleTexts) || Trouble(0).ID() != "other" {
		t.Errorf("%d ids for %d troubles", len(troubleIDs), len(troubleTexts))
	}
}

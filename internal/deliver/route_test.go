package deliver

import (
	"encoding/json"
	"testing"
)

func TestRouteJSON(t *testing.T) {
	f := Finder{Resolver: world(t, "example.com. A 192.0.2.1\n")}
	r, _ := f.Find(t.Context(), address(t, "user@example.com"))
	got, err := json.Marshal(r)
	want := `{"destination":"example.com","hops":[{"host":"example.com","preference":0,"address":"192.0.2.1","implicit":true}],` +
		`"notes":[{"id":"mx.implicit","host":"","text":"example.com has no MX, so its own addresses serve"}],"stale":false}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	r, _ = f.Find(t.Context(), address(t, "user@example.org"))
	if got, _ := json.Marshal(r); string(got) != `{"destination":"example.org","hops":[],"notes":[],"stale":false}` {
		t.Errorf("got %s", got)
	}
}

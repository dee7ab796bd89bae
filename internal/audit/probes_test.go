package audit

import (
	"strings"
	"testing"
)

// TestProbesPanic: a panic where a list is asked for many domains ends none of them.
func TestProbesPanic(t *testing.T) {
	made := new(Probes).get(probeKey{}, func(*probed) { panic("a bug") })
	<-made.done
	for _, err := range []error{made.probe.Test.Err, made.probe.Never.Err} {
		if err == nil || !strings.Contains(err.Error(), "a bug") || !strings.Contains(err.Error(), "probes_test.go") {
			t.Errorf("%v", err)
		}
	}
}

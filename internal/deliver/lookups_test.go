package deliver

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// What a delivery has asked the DNS stands in the log: the MX records, and both families'
// addresses of two hosts.
func TestLookupsAreCounted(t *testing.T) {
	d, _ := rig(t, map[string]*fake{first: {}})
	var log bytes.Buffer
	d.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.Deliver(t.Context(), envelope(t, "bob@example.com"), func() io.ReadCloser { return io.NopCloser(strings.NewReader(text)) })
	if want := `msg="looked up" rcpt=bob@example.com asked=5 cached=5 packets=0 failed=0 took=`; !strings.Contains(log.String(), want) {
		t.Errorf("no %s in\n%s", want, log.String())
	}
}

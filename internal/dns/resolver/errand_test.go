package resolver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestErrand: however an errand ends, all who wait for it know, also those who came later.
func TestErrand(t *testing.T) {
	type key struct{}
	for _, tt := range []struct {
		why  string
		end  func(asker, callBack context.CancelFunc)
		took time.Duration
		want error
	}{
		{"its time is over", func(_, _ context.CancelFunc) {}, time.Minute, context.DeadlineExceeded},
		{"its asker has gone", func(asker, _ context.CancelFunc) { asker() }, 0, context.Canceled},
		{"it is called back", func(_, callBack context.CancelFunc) { callBack() }, 0, context.Canceled},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asker, gone := context.WithCancel(context.WithValue(t.Context(), key{}, "of the asker"))
				defer gone()
				e, end := sendOut(asker, time.Minute)
				defer end()
				if until, ok := e.Deadline(); !ok || time.Until(until) != time.Minute || e.Err() != nil || e.Value(key{}) != "of the asker" {
					t.Errorf("at the beginning: %s, %v", time.Until(until), e.Err())
				}
				told := 0
				waits, quiet := &hangup{end: func() { told++ }}, &hangup{end: func() { t.Error("told, though it is quiet") }}
				e.tell(waits)
				e.tell(quiet)
				if !e.quiet(quiet) || e.quiet(quiet) {
					t.Error("one is forgotten once")
				}
				child, cancel := context.WithTimeout(e, time.Hour)
				defer cancel()
				other, stop := context.WithTimeout(e, time.Hour)
				stop() // leaves nothing behind
				<-other.Done()
				done, began := e.Done(), time.Now()
				tt.end(gone, e.callBack)
				<-done
				<-child.Done()
				synctest.Wait()
				if took := time.Since(began); took != tt.took || e.Err() != tt.want || child.Err() != tt.want || told != 1 {
					t.Errorf("after %s: %v, its child %v, told %d times", took, e.Err(), child.Err(), told)
				}
				late := &hangup{end: func() { told++ }}
				e.tell(late)
				<-e.Done()
				if told != 2 || late.err() == nil || e.quiet(late) {
					t.Error("who comes late is not told")
				}
				end()
				if e.Err() != tt.want {
					t.Errorf("it ended twice: %v", e.Err())
				}
			})
		})
	}
}

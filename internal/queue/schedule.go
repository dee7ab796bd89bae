package queue

import "time"

// How long mail is tried before it is given up (RFC 5321 §4.5.4.1 wants at least 4 to 5
// days), and how often a backup MX looks for its primary.
const (
	Lifetime       = 5 * 24 * time.Hour
	BackupLifetime = 10 * 24 * time.Hour
	CanaryInterval = time.Minute
)

// retryJitter is the part of a delay by which it may be shorter or longer, so that what
// failed together does not come back together.
const retryJitter = 0.1

// Expires tells when a message that was received then is given up.
func Expires(received time.Time, backup bool) time.Time {
	if backup {
		return received.Add(BackupLifetime)
	}
	return received.Add(Lifetime)
}

// Delay gives the time to wait after the attempt of that number (1 is the first), before
// jitter: two attempts in the first hour and then one every few hours, as RFC 5321
// §4.5.4.1 wants, but quicker at the start, for greylisting and short trouble.
func Delay(attempt int) time.Duration {
	delays := [...]time.Duration{
		1 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute,
		1 * time.Hour, 2 * time.Hour, 4 * time.Hour,
	}
	return delays[min(max(attempt, 1), len(delays))-1]
}

// NextAttempt tells when to try again after an attempt that ended at now. chance is
// a number in [0, 1) that spreads the delay by a tenth to both sides. The last attempt is
// made when the message expires, not before.
func NextAttempt(now, expires time.Time, attempt int, chance float64) time.Time {
	delay := Delay(attempt)
	delay += time.Duration((2*chance - 1) * retryJitter * float64(delay))
	next := now.Add(delay)
	if next.After(expires) {
		return expires
	}
	return next
}

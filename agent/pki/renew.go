package pki

import (
	"crypto/x509"
	"time"
)

// RenewAt is when a certificate is to be renewed: after two thirds of its life, and up
// to a twelfth of it later, as chance (0 to 1) says, so that nodes that joined together
// do not ask together. A quarter of the life is left for a cluster that has no leader.
func RenewAt(c *x509.Certificate, chance float64) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotBefore.Add(life*2/3 + time.Duration(min(max(chance, 0), 1)*float64(life/12)))
}

// Due says whether a certificate is to be renewed. One that has not begun yet is, too: it
// was made while this machine's clock was ahead, and nobody else takes it before then.
func Due(c *x509.Certificate, chance float64, now time.Time) bool {
	return !now.Before(RenewAt(c, chance)) || now.Before(c.NotBefore)
}

// Next is how long to wait before the next try: until RenewAt, then ever less of what is
// left, no more often than every minute.
func Next(c *x509.Certificate, chance float64, now time.Time) time.Duration {
	if at := RenewAt(c, chance); now.Before(at) {
		return at.Sub(now)
	}
	return max(c.NotAfter.Sub(now)/100, minRetry)
}

// minRetry is the least wait between two tries to renew a certificate.
const minRetry = time.Minute

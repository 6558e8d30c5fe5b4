package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const cluster = "00112233445566778899aabbccddeeff"

func newCA(t testing.TB, cluster string) *CA {
	t.Helper()
	ca, err := NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issued are credentials of who, signed by ca at a time, trusting cas besides.
func issued(t testing.TB, ca *CA, who Identity, at time.Time, cas ...*CA) *Credentials {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(who, key.Public(), at, LifeNode)
	if err != nil {
		t.Fatal(err)
	}
	c := Credentials{Cluster: who.Cluster, Key: key, Cert: cert, CAs: []*x509.Certificate{ca.Cert}}
	for _, x := range cas {
		c.CAs = append(c.CAs, x.Cert)
	}
	out, err := c.Complete()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSignerTakesOnlyTheKey of a request that asks for everything else.
func TestSignerTakesOnlyTheKey(t *testing.T) {
	ca := newCA(t, cluster)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	greedy, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "node n1"}, DNSNames: []string{"evil"}, IPAddresses: []net.IP{{10, 0, 0, 1}},
		URIs:            []*url.URL{{Scheme: scheme, Host: cluster, Path: "/node/n1"}},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}, // a CA
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	public, digest, err := ReadRequest(greedy)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c, err := ca.Sign(Identity{Cluster: cluster, Node: "n2"}, public, now, LifeNode)
	if err != nil {
		t.Fatal(err)
	}
	id, err := IdentityOf(c)
	if want := (Identity{Cluster: cluster, Node: "n2", Key: digest}); err != nil || id != want {
		t.Errorf("identity %+v, %v, want %+v", id, err, want)
	}
	if c.IsCA || len(c.DNSNames)+len(c.IPAddresses) > 0 || c.Subject.CommonName != "node n2" || len(c.URIs) != 1 {
		t.Errorf("the request got through: %+v", c.Subject)
	}
	if life := c.NotAfter.Sub(now); life > LifeNode || life < LifeNode-time.Minute {
		t.Errorf("it lives for %s", life)
	}
}

func TestWrongRequests(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	good, err := Request(key)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{"forged": forged, "another kind of key": other, "empty": nil, "longer": append(bytes.Clone(good), 0)} {
		if _, _, err := ReadRequest(der); err == nil {
			t.Errorf("%s: it passed", name)
		}
	}
	for _, who := range []Identity{{}, {Cluster: cluster}, {Cluster: cluster, Node: "../x"}, {Cluster: "x", Node: "n1"}, {Cluster: cluster, Node: "a", Person: "b"}, {Cluster: cluster, Person: "a?role=admin"}} {
		if _, err := newCA(t, cluster).Sign(who, key.Public(), time.Now(), LifeNode); err == nil {
			t.Errorf("%+v was signed", who)
		}
	}
}

func TestCAKeyOpens(t *testing.T) {
	ca, other := newCA(t, cluster), newCA(t, cluster)
	b, err := ca.Key()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := OpenCA(ca.Cert, b); err != nil || !again.key.Equal(ca.key) {
		t.Errorf("%v", err)
	}
	if _, err := OpenCA(other.Cert, b); err == nil {
		t.Error("the key of another CA passed")
	}
	if _, err := OpenCA(ca.Cert, b[1:]); err == nil {
		t.Error("a damaged key passed")
	}
	if life := time.Until(ca.Cert.NotAfter); life < LifeCA-time.Minute || life > LifeCA {
		t.Errorf("the CA lives for %s", life)
	}
	// One that is made while a machine's clock is ahead is of use to the others at once.
	if ahead, err := NewCA(cluster, time.Now().Add(90*24*time.Hour)); err != nil || time.Now().Before(ahead.Cert.NotBefore) {
		t.Errorf("made by a clock that is ahead, it begins at %s, %v", ahead.Cert.NotBefore, err)
	}
	if Digest(ca.Cert) == Digest(other.Cert) {
		t.Error("two CAs have one digest")
	}
}

func TestPEM(t *testing.T) {
	ca := newCA(t, cluster)
	c := issued(t, ca, Identity{Cluster: cluster, Node: "n1"}, time.Now())
	certs, err := DecodeCerts(EncodeCerts(c.Cert, ca.Cert))
	if err != nil || len(certs) != 2 || !certs[0].Equal(c.Cert) || !certs[1].Equal(ca.Cert) {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	b, err := EncodeKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := DecodeKey(b); err != nil || !key.Equal(c.Key) {
		t.Errorf("%v", err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "text": []byte("hello"), "a key": b, "more": append(EncodeCerts(c.Cert), "x"...)} {
		if _, err := DecodeCerts(bad); !errors.Is(err, ErrPEM) {
			t.Errorf("certificates of %s: %v", name, err)
		}
	}
	for name, bad := range map[string][]byte{"empty": nil, "a certificate": EncodeCerts(c.Cert), "two": append(bytes.Clone(b), b...)} {
		if _, err := DecodeKey(bad); err == nil {
			t.Errorf("a key of %s", name)
		}
	}
}

func TestCredentialsMustFit(t *testing.T) {
	ca, other := newCA(t, cluster), newCA(t, cluster)
	c := issued(t, ca, Identity{Cluster: cluster, Node: "n1"}, time.Now())
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]Credentials{
		"no key":      {Cert: c.Cert, CAs: c.CAs},
		"another key": {Key: key, Cert: c.Cert, CAs: c.CAs},
		"another CA":  {Key: c.Key, Cert: c.Cert, CAs: []*x509.Certificate{other.Cert}},
		"no CA":       {Key: c.Key, Cert: c.Cert},
	} {
		if _, err := bad.Complete(); err == nil {
			t.Errorf("%s: it passed", name)
		}
	}
	if c.Issuer() != Digest(ca.Cert) {
		t.Error("the issuer is another")
	}
}

func TestIdentityOfOddURIs(t *testing.T) {
	ca := newCA(t, cluster)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, odd := range []string{
		"orch://" + cluster + "/node/n1?role=admin", "orch://" + cluster + "/node/n1/x", "orch://" + cluster + "/king/n1", "orch://" + cluster + "/node/",
		"http://" + cluster + "/node/n1", "orch://x@" + cluster + "/node/n1", "orch://" + cluster + ":1/node/n1", "orch:node", "orch://" + cluster + "/node/N1",
	} {
		u, err := url.Parse(odd)
		if err != nil {
			t.Fatal(err)
		}
		tpl, err := template(pkix.Name{CommonName: "x"}, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		tpl.URIs = []*url.URL{u}
		der, err := x509.CreateCertificate(rand.Reader, tpl, ca.Cert, key.Public(), ca.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue // Go's parser refuses it already
		}
		if id, err := IdentityOf(c); !errors.Is(err, ErrIdentity) {
			t.Errorf("%s is %+v, %v", odd, id, err)
		}
	}
}

func TestCheckPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	file := filepath.Join(dir, "node.key")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		mode os.FileMode
		say  string
	}{{dir, 0o700, ""}, {file, 0o600, ""}, {file, 0o400, ""}, {file, 0o640, "chmod 0600 " + file}, {file, 0o604, "chmod 0600"}, {dir, 0o750, "chmod 0700 " + dir}} {
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
		switch err := CheckPrivate(c.path); {
		case c.say == "" && err != nil:
			t.Errorf("%s %04o: %v", c.path, c.mode, err)
		case c.say != "" && (!errors.Is(err, ErrLoose) || !strings.Contains(err.Error(), c.say)):
			t.Errorf("%s %04o: %v, want %q", c.path, c.mode, err, c.say)
		}
	}
	if err := CheckPrivate(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there passed")
	}
}

// TestThreeYearsOfRenewals: a certificate is always in force, also where every second
// try fails.
func TestThreeYearsOfRenewals(t *testing.T) {
	ca := newCA(t, cluster)
	now := time.Now()
	end := now.Add(3 * 365 * 24 * time.Hour)
	who := Identity{Cluster: cluster, Node: "n1"}
	cert := issued(t, ca, who, now).Cert
	renewals, tries := 0, 0
	for now.Before(end) {
		now = now.Add(Next(cert, 0.5, now))
		if now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
			t.Fatalf("at %s the certificate (%s to %s) is not in force", now, cert.NotBefore, cert.NotAfter)
		}
		if tries++; tries%2 == 0 {
			cert = issued(t, ca, who, now).Cert
			renewals++
		}
	}
	if renewals < 15 || renewals > 19 { // 1095 days by 60 to 68
		t.Errorf("%d renewals in three years", renewals)
	}
	for _, chance := range []float64{-1, 0, 1, 2} {
		if at := RenewAt(cert, chance).Sub(cert.NotBefore); at < 60*24*time.Hour || at > 68*24*time.Hour {
			t.Errorf("chance %v: renewed after %s", chance, at)
		}
	}
}

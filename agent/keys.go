package agent

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"orch/agent/pki"
)

// The files of a node's keys in its data folder, each of mode 0600. docs/security.md
// says what each is for and how to exchange it.
const (
	keyFile        = "node.key"    // PEM, made once
	certFile       = "node.crt"    // PEM
	authorityFile  = "ca.crt"      // PEM, one CA or two
	clusterKeyFile = "cluster.key" // hex: opens what is sealed in the log
	gossipFile     = "gossip.keys" // base64, a line each; the first is written with
)

// secretFiles go where the cluster that they are of goes.
var secretFiles = []string{keyFile, certFile, authorityFile, clusterKeyFile, gossipFile}

// secret reads a file that nobody else may read or replace.
func (f *folder) secret(name string) ([]byte, error) {
	path := filepath.Join(f.dir, name)
	err := pki.CheckPrivate(path)
	if err == nil {
		err = pki.CheckOwner(path)
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	return os.ReadFile(path)
}

// checkSecrets refuses a folder whose keys others can read or own.
func (f *folder) checkSecrets() error {
	for _, name := range append([]string{identityFile}, secretFiles...) {
		if _, err := f.secret(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// nodeKey is this node's key: the one that a join which was cut off has made, or a new
// one.
func (f *folder) nodeKey() (*ecdsa.PrivateKey, error) {
	b, err := f.secret(keyFile)
	if err == nil {
		key, err := pki.DecodeKey(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w: move it away, and a new one is made", ErrFolder, filepath.Join(f.dir, keyFile), err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	b, err = pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, f.replace(keyFile, b)
}

// clusterKey reads the key of the cluster, or makes one where make is true and there is
// none.
func (f *folder) clusterKey(make bool) ([]byte, error) {
	b, err := f.secret(clusterKeyFile)
	if make && errors.Is(err, fs.ErrNotExist) {
		key := pki.NewSealKey()
		return key, f.saveClusterKey(key)
	}
	if err != nil {
		return nil, err
	}
	return decodeClusterKey(b, filepath.Join(f.dir, clusterKeyFile))
}

func decodeClusterKey(b []byte, path string) ([]byte, error) {
	key, err := pki.DecodeSealKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not the key of a cluster: copy it from another node of this cluster, mode 0600", ErrFolder, path)
	}
	return key, nil
}

func (f *folder) saveClusterKey(key []byte) error {
	return f.replace(clusterKeyFile, pki.EncodeSealKey(key))
}

func (f *folder) gossipKeys() ([][]byte, error) {
	b, err := f.secret(gossipFile)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, line := range bytes.Fields(b) {
		k, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(k) != gossipKeyLen {
			return nil, fmt.Errorf("%w: %s has a line that is no key: copy it from another node of this cluster, mode 0600", ErrFolder, filepath.Join(f.dir, gossipFile))
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %s is empty: copy it from another node of this cluster, mode 0600", ErrFolder, filepath.Join(f.dir, gossipFile))
	}
	return keys, nil
}

func (f *folder) saveGossipKeys(keys [][]byte) error {
	var b []byte
	for _, k := range keys {
		b = base64.StdEncoding.AppendEncode(b, k)
		b = append(b, '\n')
	}
	return f.replace(gossipFile, b)
}

// gossipKeyLen asks for AES-256.
const gossipKeyLen = 32

// saveCredentials writes a certificate and the CAs that are trusted. A node that ends
// between the two starts with the old ones of either, and follows the table anew.
func (f *folder) saveCredentials(c *pki.Credentials) error {
	if err := f.replace(authorityFile, pki.EncodeCerts(c.CAs...)); err != nil {
		return err
	}
	return f.replace(certFile, pki.EncodeCerts(c.Cert))
}

// credentials reads what saveCredentials wrote.
func (f *folder) credentials(cluster string) (*pki.Credentials, error) {
	parts := map[string][]byte{}
	for _, name := range []string{keyFile, certFile, authorityFile} {
		b, err := f.secret(name)
		if err != nil {
			return nil, err
		}
		parts[name] = b
	}
	key, err := pki.DecodeKey(parts[keyFile])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	certs, err := pki.DecodeCerts(parts[certFile])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	cas, err := pki.DecodeCerts(parts[authorityFile])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", authorityFile, err)
	}
	return pki.Credentials{Cluster: cluster, Key: key, Cert: certs[0], CAs: cas}.Complete()
}

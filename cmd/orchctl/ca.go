package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"orch/agent/api"
	"orch/agent/pki"
)

func (a *app) ca() *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "The authority that signs certificates", Example: "  orchctl ca rotate"}
	cmd.AddCommand(&cobra.Command{
		Use: "rotate", Short: "Exchange the CA while everything goes on", Args: cobra.NoArgs, Example: "  orchctl ca rotate",
		Long: `Exchange the CA while everything goes on.

A new CA is trusted by every node; then it signs, and every node has a new certificate;
then the old CA goes. Where all nodes answer that takes seconds. 'orchctl trust' shows how
far it is.

The context that this command is given by has a certificate of the new CA before it ends.
All other bundles stop as soon as the new CA signs: each needs a new 'orchctl grant', which
may be made from the end of this command on.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.with(cmd, a.rotateCA) },
	})
	return cmd
}

func (a *app) rotateCA(ctx context.Context, c *api.Client) error {
	before, err := c.Trust(ctx)
	if err != nil {
		return err
	}
	r, err := c.RotateCA(ctx)
	if err != nil {
		return err
	}
	var own, renewed string
	if b := a.by; b != nil {
		if err := b.renew(r); err != nil {
			return fmt.Errorf("a new CA is being put in place, and context %q could not be given a certificate of it (%w), so it ends within seconds: type 'orchctl ca rotate' again, or 'orchctl grant %s --role %s' on a node", b.context, err, b.Name, b.Role)
		}
		own, renewed = b.Name, fmt.Sprintf(" Context %s has a certificate of the new CA.", b.context)
	}
	if !r.Begun {
		return fmt.Errorf("an exchange of the CA is under way, so no other was begun: 'orchctl trust' shows what it waits for.%s", renewed)
	}
	return a.say(map[string]bool{"rotating": true}, "A new CA is being put in place: 'orchctl trust' shows how far it is.%s%s", renewed, newBundles(before.People, own))
}

// newBundles says who needs one; own is the person whose context goes on.
func newBundles(people []api.PersonInfo, own string) string {
	var lines strings.Builder
	for _, p := range people {
		if p.Name != own {
			fmt.Fprintf(&lines, "\n  orchctl grant %s --role %s", p.Name, p.Role)
		}
	}
	if lines.Len() == 0 {
		return ""
	}
	return "\nThe bundles of these people stop as soon as it signs, which may be in a second. New ones may be made now, and go on working:\n" + lines.String()
}

// renew stores the certificate of a new CA that the cluster has made for this context.
func (b *bundle) renew(r api.Rotated) error {
	next := *b
	next.Certificate, next.Authorities = r.Certificate, r.Authorities
	creds, err := next.credentials()
	if err != nil {
		return err
	}
	id, err := creds.Identity()
	if err != nil {
		return err
	}
	if id.Person != b.Name || id.Cluster != b.ClusterID {
		return fmt.Errorf("it is for %s in cluster %s", id, id.Cluster)
	}
	next.Until = creds.Cert.NotAfter
	return next.store()
}

// settle has the context forget the CAs before its own when a node shows a certificate of
// that one: it signs by then, every node trusts it, and the key of one before may be in
// the hands of others. What can not be stored is tried again at the next connection.
func (b *bundle) settle(creds *pki.Credentials, node *x509.Certificate) {
	own := slices.IndexFunc(creds.CAs, func(ca *x509.Certificate) bool { return pki.Digest(ca) == creds.Issuer() })
	if own < 1 || node.CheckSignatureFrom(creds.CAs[own]) != nil {
		return
	}
	now, err := loadContext(b.context)
	if err != nil || !bytes.Equal(now.Certificate, b.Certificate) {
		return // it is another by now, and says for itself whom it trusts
	}
	now.Authorities = pki.EncodeCerts(creds.CAs[own:]...)
	now.store()
}

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"orch/agent/api"
)

func (a *app) recover() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "recover", Short: "Make a cluster again of the nodes that survive, when the majority is lost for good", Args: cobra.NoArgs,
		Long: `Make a cluster again of the nodes that survive, when the majority is lost for good.

It shows what this node's disk holds, who else answers, and what would be lost; with
--yes, or after a question, this node becomes the first of the cluster, the others that
answer follow it, and those that do not are left behind. Containers are served all the
while. If the lost nodes can be started again, start them instead: nothing is lost then.`,
		Example: "  orchctl recover          # look\n  orchctl recover --yes    # do it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				p, err := c.Recovery(ctx)
				if err != nil {
					return err
				}
				if p.Refused != "" {
					return fmt.Errorf("node %s (term %d, index %d): %s", p.Node, p.Holds.Term, p.Holds.Index, p.Refused)
				}
				if a.output == "table" || !yes {
					if err := a.print(p, func(w io.Writer) { recoveryTable(w, p) }); err != nil {
						return err
					}
				}
				if err := a.confirm(cmd, yes, "Recover the cluster from this node?"); err != nil {
					return err
				}
				p, err = c.Recover(ctx, api.RecoverOrder{ClusterID: p.ClusterID, Term: p.Holds.Term, Index: p.Holds.Index})
				if err != nil {
					return err
				}
				return a.say(p, "\nCluster %s is recovered; node %s leads it. Let new nodes join until there are three again:\n\n  orchctl nodes", p.ClusterID, p.Node)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return cmd
}

func recoveryTable(w io.Writer, p api.Recovery) {
	fmt.Fprintf(w, "Cluster\t%s, without a leader\nThis node\t%s\nIts disk holds\tup to term %d, index %d (index %d is known to be committed)\n\t%d services, %d containers\n\n",
		p.ClusterID, p.Node, p.Holds.Term, p.Holds.Index, p.Holds.Applied, p.Services, p.Rows)
	fmt.Fprintln(w, "NODE\tRAFT\tVOTER\tANSWERS\tHOLDS\tWOULD")
	fmt.Fprintf(w, "%s\t\ttrue\ttrue\tterm %d, index %d\tlead\n", p.Node, p.Holds.Term, p.Holds.Index)
	for _, m := range p.Members {
		holds, would := "?", "be left behind, with whatever only it holds"
		if m.Answers {
			holds, would = fmt.Sprintf("term %d, index %d", m.Holds.Term, m.Holds.Index), "set its log aside and follow"
		}
		fmt.Fprintf(w, "%s\t%s\t%t\t%t\t%s\t%s\n", m.ID, m.Addr, m.Voter, m.Answers, holds, would)
	}
	fmt.Fprintln(w, "\nWhat only the nodes that are left behind had acknowledged is lost. If one of them can\nbe started again, start it instead.")
}

func (a *app) remove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the cluster that is lost for good", Args: cobra.ExactArgs(1),
		Long: `Take a node out of the cluster that is lost for good: it loses its vote at once instead of
after a day, and its containers are made elsewhere. One that is alive leaves by itself
('orchctl leave' on it). One that has left is forgotten.

Its key is shut out at once, everywhere. A node that somebody has broken into is removed
while it is alive with --force; then exchange what it knew: 'orchctl ca rotate' and
'orchctl token rotate' (the gossip key is exchanged by itself).`,
		Example: "  orchctl remove n3\n  orchctl remove n3 --force",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				o, err := c.RemoveNode(ctx, args[0], force)
				if err != nil {
					return err
				}
				return a.say(map[string]any{"removed": args[0], "unconfirmed": o.Unconfirmed}, "node %s is removed; 'orchctl nodes' shows who is left%s", args[0], unconfirmed(o))
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also a node that is alive: what is in flight on it fails")
	return cmd
}

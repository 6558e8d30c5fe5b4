package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"orch/agent/api"
	"orch/fsm"
)

// applied is a plan, and whether it was done.
type applied struct {
	api.Plan
	Applied bool `json:"applied"`
}

func (a *app) apply() *cobra.Command {
	var file, why string
	var yes, force, dry bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Add or change the services of a YAML file, after showing what that does", Args: cobra.NoArgs,
		Long: `Add or change the services of a YAML file, after showing what that does, row by row.

What changes a service that runs is done with --yes, or when you say so at the prompt;
what only adds services is done at once. New containers come first: a stand-in of the
new version is healthy before a container of the old one drains, stops and begins anew.
A version that does not become healthy goes back by itself.`,
		Example: "  orchctl apply -f deploy/acts.yaml\n  orchctl apply -f deploy/acts.yaml --yes --why 'release 7'\n  orchctl apply -f - < acts.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, content, err := source(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			specs, err := api.ParseSpecs(name, content)
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				plans, err := plansOf(ctx, c, specs, force)
				if err != nil {
					return err
				}
				ask := func() error { return a.confirm(cmd, yes, "Do it?") }
				if dry {
					ask = nil
				}
				if err := a.carryOut(cmd, c, specs, plans, ask, api.ApplyOptions{Restart: force, Why: why}); err != nil || wait == 0 {
					return err
				}
				return a.awaitEnd(cmd, c, plans, wait)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "the file; - is standard input")
	f.BoolVarP(&yes, "yes", "y", false, "do it without asking")
	f.BoolVar(&dry, "dry-run", false, "show the plan and do nothing")
	f.BoolVar(&force, "force", false, "replace every container, also where nothing has changed: for an image built again under its tag")
	f.DurationVar(&wait, "wait", 0, "wait so long for the roll-outs to end, and fail where one does not go well")
	f.StringVar(&why, "why", "", "a line for the history")
	cmd.MarkFlagRequired("file")
	return cmd
}

func plansOf(ctx context.Context, c *api.Client, specs []fsm.Spec, force bool) ([]applied, error) {
	plans := make([]applied, len(specs))
	for i, s := range specs {
		p, err := c.Plan(ctx, s, api.ApplyOptions{Restart: force})
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		plans[i].Plan = p
	}
	return plans, nil
}

// carryOut shows the plans, asks where something that runs changes, and applies what is
// not idle; without ask it only shows. The wait for a person's answer does not count as
// one for the cluster's.
func (a *app) carryOut(cmd *cobra.Command, c *api.Client, specs []fsm.Spec, plans []applied, ask func() error, o api.ApplyOptions) error {
	json := a.output == "json"
	if !json {
		for _, p := range plans {
			if err := a.print(nil, func(w io.Writer) { planTable(w, p.Plan) }); err != nil {
				return err
			}
		}
	}
	var err error
	if ask != nil && changesWhatRuns(plans) {
		err = ask()
	}
	for i := range plans {
		if err != nil || ask == nil || plans[i].Idle() {
			continue
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
		o.Base = plans[i].Base
		if err = c.Apply(ctx, specs[i], o); err != nil {
			err = fmt.Errorf("service %s: %w", specs[i].Name, err)
		}
		cancel()
		plans[i].Applied = err == nil
		if err == nil && !json {
			fmt.Fprintf(a.stdout, "service %s applied; watch it with 'orchctl ps' and 'orchctl status', see how it ends with 'orchctl history %s'\n", specs[i].Name, specs[i].Name)
		}
	}
	if json {
		return errors.Join(a.print(plans, nil), err)
	}
	return err
}

// waitInterval is the time between two looks at a roll-out that takes seconds.
const waitInterval = 250 * time.Millisecond

// awaitEnd returns when every plan that was applied has become good, or why one has not.
func (a *app) awaitEnd(cmd *cobra.Command, c *api.Client, plans []applied, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	for _, p := range plans {
		for p.Applied {
			list, err := c.History(ctx, p.Service)
			if err != nil && ctx.Err() == nil {
				return err
			}
			i := slices.IndexFunc(list, func(r api.RevisionInfo) bool { return r.Revision == p.Revision })
			if i >= 0 && list[i].Outcome == fsm.Good {
				break
			}
			if i >= 0 && list[i].Outcome != fsm.Rolling {
				return fmt.Errorf("service %s: revision %d is %s: %s; 'orchctl history %s' says what runs now", p.Service, p.Revision, list[i].Outcome, list[i].Reason, p.Service)
			}
			select {
			case <-time.After(waitInterval):
			case <-ctx.Done():
				return fmt.Errorf("service %s: revision %d has not been rolled out within --wait %s; it goes on by itself, and 'orchctl status' says how far it is", p.Service, p.Revision, limit)
			}
		}
	}
	return nil
}

// changesWhatRuns says whether a plan does more than to add a service.
func changesWhatRuns(plans []applied) bool {
	return slices.ContainsFunc(plans, func(p applied) bool { return p.Base != 0 && !p.Idle() })
}

func planTable(w io.Writer, p api.Plan) {
	switch {
	case p.Base == 0:
		fmt.Fprintf(w, "service %s is new\n", p.Service)
	case p.Idle():
		fmt.Fprintf(w, "service %s: nothing changes (revision %d)\n", p.Service, p.Base)
		return
	default:
		fmt.Fprintf(w, "service %s: revision %d becomes %d\n", p.Service, p.Base, p.Revision)
	}
	for _, c := range p.Changes {
		fmt.Fprintf(w, "  %s:\t%s\t->\t%s\n", c.Key, orNone(c.From), orNone(c.To))
	}
	fmt.Fprintln(w) // ends the columns of what changes
	fmt.Fprintln(w, "CONTAINER\tNODE\tPORT\tACTION\tREASON")
	for _, r := range p.Rows {
		node, port := r.Node, fmt.Sprint(r.Port)
		if node == "" {
			node = "-"
		}
		if r.Port == 0 {
			port = "-"
		}
		fmt.Fprintf(w, "%s/%d\t%s\t%s\t%s\t%s\n", p.Service, r.Number, node, port, r.Action, r.Reason)
	}
}

func orNone(value string) string {
	if value == "" {
		return "(none)"
	}
	return value
}

func (a *app) rollback() *cobra.Command {
	var to uint64
	var why string
	cmd := &cobra.Command{
		Use: "rollback SERVICE", Short: "Take a service back to what it was", Args: cobra.ExactArgs(1),
		Long:    "Take a service back to the newest revision that was good and differs, or to the one of --to,\nas a roll-out: start first, drain, no request fails.",
		Example: "  orchctl rollback acts\n  orchctl rollback acts --to 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.RollBack(ctx, args[0], to, why)
				if err != nil {
					return err
				}
				return a.say(r, "service %s goes back from revision %d to what %d was; see how it ends with 'orchctl history %s'", r.Service, r.Left, r.To, r.Service)
			})
		},
	}
	cmd.Flags().Uint64Var(&to, "to", 0, "revision to go back to; 0 is the newest good one that differs")
	cmd.Flags().StringVar(&why, "why", "by hand", "a line for the history")
	return cmd
}

func (a *app) restart() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "restart SERVICE", Short: "Have every container of a service begin anew, start first: for an image built again under its tag", Args: cobra.ExactArgs(1), Example: "  orchctl restart acts",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				if err := c.Restart(ctx, args[0], why); err != nil {
					return err
				}
				return a.say(map[string]string{"restarted": args[0]}, "the containers of %s begin anew, one after the other; see how it ends with 'orchctl history %s'", args[0], args[0])
			})
		},
	}
	cmd.Flags().StringVar(&why, "why", "restart by hand", "a line for the history")
	return cmd
}

func (a *app) history() *cobra.Command {
	return &cobra.Command{
		Use: "history SERVICE", Short: "The revisions of a service and what became of them", Args: cobra.ExactArgs(1), Example: "  orchctl history acts\n  orchctl history acts -o json | jq '.[0].outcome'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				list, err := c.History(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(list, func(w io.Writer) {
					fmt.Fprintln(w, "REVISION\tAT\tIMAGE\tOUTCOME\tBY\tWHY\tREASON")
					for _, r := range list {
						fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Revision, r.At.Local().Format(time.DateTime), r.Image, r.Outcome, r.By, r.Why, r.Reason)
					}
				})
			})
		},
	}
}

func (a *app) drain() *cobra.Command {
	var deadline time.Duration
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Have a node's containers made elsewhere, each before it is taken; it stays a member", Args: cobra.ExactArgs(1), Example: "  orchctl drain n2 --deadline 10m\n  orchctl nodes\n  orchctl undrain n2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if deadline < time.Millisecond {
				return fmt.Errorf("--deadline %s: give a time of at least 1ms, for example 10m", deadline)
			}
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				if err := c.DrainNode(ctx, args[0], deadline); err != nil {
					return err
				}
				return a.say(map[string]any{"draining": args[0], "deadline_ms": deadline.Milliseconds()}, "node %s drains: its containers move one after the other, and after %s without waiting for stand-ins; watch 'orchctl ps', end it with 'orchctl undrain %s'", args[0], deadline, args[0])
			})
		},
	}
	cmd.Flags().DurationVar(&deadline, "deadline", 10*time.Minute, "after this time what is left moves without waiting for a stand-in")
	return cmd
}

func (a *app) undrain() *cobra.Command {
	return &cobra.Command{
		Use: "undrain NODE", Short: "Let a drained node have containers again; they come back slowly", Args: cobra.ExactArgs(1), Example: "  orchctl undrain n2",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				if err := c.UndrainNode(ctx, args[0]); err != nil {
					return err
				}
				return a.say(map[string]string{"undrained": args[0]}, "node %s takes containers again; its share moves back one by one", args[0])
			})
		},
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orch/agent/api"
)

// print writes v as JSON, or as the table that rows makes.
func (a *app) print(v any, table func(w io.Writer)) error {
	if a.output == "json" {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	table(w)
	return w.Flush()
}

func (a *app) ps() *cobra.Command {
	return &cobra.Command{
		Use: "ps", Short: "The container table", Args: cobra.NoArgs, Example: "  orchctl ps\n  orchctl ps -o json | jq '.[].addr'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				rows, err := c.PS(ctx)
				if err != nil {
					return err
				}
				return a.print(rows, func(w io.Writer) { psTable(w, rows) })
			})
		},
	}
}

func psTable(w io.Writer, rows []api.Row) {
	fmt.Fprintln(w, "CONTAINER\tNODE\tPORT\tSTATUS\tTURN\tGENERATION\tPHASE\tIMAGE\tREASON")
	for _, r := range rows {
		status := "False"
		if r.Status {
			status = "True"
		}
		fmt.Fprintf(w, "%s/%d\t%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\n", r.Service, r.Number, r.Node, r.Port, status, r.Turn, r.Generation, r.Phase, r.Image, r.Reason)
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "(no containers: run a service with 'orchctl apply -f FILE')")
	}
}

func (a *app) nodes() *cobra.Command {
	return &cobra.Command{
		Use: "nodes", Short: "The nodes and their roles", Args: cobra.NoArgs, Example: "  orchctl nodes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				nodes, err := c.Nodes(ctx)
				if err != nil {
					return err
				}
				return a.print(nodes, func(w io.Writer) { nodesTable(w, nodes) })
			})
		},
	}
}

func nodesTable(w io.Writer, nodes []api.NodeInfo) {
	fmt.Fprintln(w, "NODE\tADDR\tPROXY\tROLE\tSTATUS\tAPPLIED\tVERSION")
	for _, n := range nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", n.ID, n.Addr, n.ProxyAddr, n.Role, n.Status, n.AppliedIndex, n.Version)
	}
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Leader, services, nodes, what is impaired, and what happens next", Args: cobra.NoArgs, Example: "  orchctl status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) { statusTable(w, s) })
			})
		},
	}
}

func statusTable(w io.Writer, s api.Status) {
	leader := s.Leader
	if leader == "" {
		leader = "none: requests are served, but nothing is healed or scaled until a majority of nodes is back"
	}
	if s.ClusterID == "" {
		fmt.Fprintln(w, "This node is in no cluster yet: 'orchctl init' makes one, 'orchctl join ADDR' joins one.")
		return
	}
	fmt.Fprintf(w, "Cluster\t%s\nLeader\t%s (term %d, commit index %d)\nTurns\t%s\n\n", s.ClusterID, leader, s.Term, s.CommitIndex, s.TurnMode)
	for _, i := range s.Impaired {
		since := ""
		if !i.Since.IsZero() {
			since = " since " + i.Since.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "IMPAIRED\t%s%s: %s\n\t%s\n", i.What, since, i.Reason, i.Meaning)
	}
	fmt.Fprintln(w, "SERVICE\tDESIRED\tHEALTHY\tMIN-MAX\tTURN\tREQUESTS\tWHY")
	for _, v := range s.Services {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d-%d\t%d\t%d\t%s\n", v.Name, v.Desired, v.Healthy, v.Min, v.Max, v.Turn, v.RequestsInWindow, v.ScaleReason)
	}
	fmt.Fprintln(w)
	nodesTable(w, s.Nodes)
	if len(s.Pending) > 0 {
		fmt.Fprintln(w, "\nNEXT\tIN\tWHY")
	}
	for _, p := range s.Pending {
		in := "-" // no clock decides
		if p.DueInMS > 0 {
			in = (time.Duration(p.DueInMS) * time.Millisecond).Round(100 * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.What, in, p.Reason)
	}
}

func (a *app) events() *cobra.Command {
	var follow bool
	var since uint64
	cmd := &cobra.Command{
		Use: "events", Short: "What has happened: the last 1,000 changes", Args: cobra.NoArgs, Example: "  orchctl events -f",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			out := a.stdout
			if a.output == "table" {
				out = &eventLines{out: a.stdout}
			}
			return c.Events(cmd.Context(), follow, since, out)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new ones")
	cmd.Flags().Uint64Var(&since, "since", 0, "only those after this index")
	return cmd
}

// eventLines turns lines of JSON into lines for people.
type eventLines struct {
	out  io.Writer
	rest []byte
}

func (l *eventLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		var e api.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return len(p), fmt.Errorf("event %q: %w", line, err)
		}
		what := e.Service
		if e.Number > 0 {
			what += "/" + strconv.Itoa(e.Number)
		}
		why := e.Reason
		if e.By != "" {
			why = strings.TrimLeft(why+" (by "+e.By+")", " ")
		}
		_, err := fmt.Fprintln(l.out, strings.TrimRight(fmt.Sprintf("%s  %-16s %-10s %-6s %s", e.At.Local().Format("15:04:05.000"), e.Kind, what, e.Node, why), " "))
		if err != nil {
			return len(p), err
		}
	}
}

func (a *app) logs() *cobra.Command {
	var q api.LogQuery
	cmd := &cobra.Command{
		Use: "logs SERVICE", Short: "What the containers of a service print, over all nodes", Args: cobra.ExactArgs(1), Example: "  orchctl logs acts -f --number 2",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			q.Service = args[0]
			return c.Logs(cmd.Context(), q, a.stdout)
		},
	}
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with new lines")
	cmd.Flags().IntVar(&q.Number, "number", 0, "only this container (default all)")
	cmd.Flags().IntVar(&q.Tail, "tail", 100, "lines from the end of each; 0 is all")
	return cmd
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "The version of orchctl and of the node it asks", Args: cobra.NoArgs, Example: "  orchctl version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]string{"orchctl": release()}
			if c, err := a.client(cmd.Context()); err == nil {
				defer c.Close()
				ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
				defer cancel()
				r, err := c.Report(ctx)
				if err != nil && a.addr != "" {
					return err
				}
				if err == nil {
					v["orchd"], v["node"] = r.Version, r.Node
				}
			}
			return a.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "orchctl %s\n", v["orchctl"])
				if v["node"] != "" {
					fmt.Fprintf(w, "orchd %s (node %s)\n", v["orchd"], v["node"])
				}
			})
		},
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"orch/agent/api"
)

// say prints what was done, for people; scripts look at the exit code.
func (a *app) say(v any, format string, args ...any) error {
	return a.print(v, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

func source(file string, stdin io.Reader) (string, []byte, error) {
	if file == "-" {
		b, err := io.ReadAll(io.LimitReader(stdin, api.MaxSpecFile+1))
		return "standard input", b, err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", nil, fmt.Errorf("--file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, api.MaxSpecFile+1))
	return file, b, err
}

func (a *app) delete() *cobra.Command {
	return &cobra.Command{
		Use: "delete SERVICE", Short: "Drain and remove a service; its volumes stay", Args: cobra.ExactArgs(1), Example: "  orchctl delete acts",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				if err := c.Delete(ctx, args[0]); err != nil {
					return err
				}
				return a.say(map[string]string{"deleted": args[0]}, "service %s is draining; it is gone when its last request has ended", args[0])
			})
		},
	}
}

func (a *app) scale() *cobra.Command {
	return &cobra.Command{
		Use: "scale SERVICE N|auto", Short: "Fix the number of containers, or give it back to the rule", Args: cobra.ExactArgs(2), Example: "  orchctl scale acts 5\n  orchctl scale acts auto",
		RunE: func(cmd *cobra.Command, args []string) error {
			count := 0
			if args[1] != "auto" {
				n, err := strconv.Atoi(args[1])
				if err != nil || n < 1 {
					return fmt.Errorf("%q: give a number of containers from 1, or auto", args[1])
				}
				count = n
			}
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				if err := c.Scale(ctx, args[0], count); err != nil {
					return err
				}
				return a.say(map[string]string{"service": args[0], "scale": args[1]}, "service %s: %s", args[0], args[1])
			})
		},
	}
}

func (a *app) transfer() *cobra.Command {
	return &cobra.Command{
		Use: "transfer [NODE]", Short: "Move leadership to another node", Args: cobra.MaximumNArgs(1), Example: "  orchctl transfer n2",
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) == 1 {
				to = args[0]
			}
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				before, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if err := c.Transfer(ctx, to); err != nil {
					return err
				}
				s, err := elected(ctx, c, before.Leader, to)
				if err != nil {
					return err
				}
				return a.say(map[string]string{"leader": s.Leader}, "leadership moved; the leader is now %s", s.Leader)
			})
		},
	}
}

// elected waits until the node asked knows the new leader: to, or where that is empty
// any but the one before.
func elected(ctx context.Context, c *api.Client, before, to string) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, electionTimeout)
	defer cancel()
	for {
		s, err := c.Status(ctx)
		if err == nil && s.Leader != "" && (s.Leader == to || to == "" && s.Leader != before) {
			return s, nil
		}
		select {
		case <-time.After(electionInterval):
		case <-ctx.Done():
			return s, fmt.Errorf("leadership was handed over, but within %s this node knows no new leader (it knows %q): see 'orchctl status', and try again", electionTimeout, s.Leader)
		}
	}
}

// electionTimeout is ten elections of the lan profile, electionInterval a sixth of one.
const (
	electionTimeout  = 3 * time.Second
	electionInterval = 50 * time.Millisecond
)

func (a *app) leave() *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "Have this node hand over its containers and leave the cluster", Args: cobra.NoArgs, Example: "  orchctl leave",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				if err := c.Leave(ctx); err != nil {
					return err
				}
				return a.say(map[string]bool{"leaving": true}, "this node drains and leaves; 'orchctl nodes' on another node shows it as left when it has")
			})
		},
	}
}

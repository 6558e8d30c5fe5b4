package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"orch/agent/api"
)

func (a *app) initCmd() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "Make a cluster of this one node", Args: cobra.NoArgs, Example: "  orchctl init",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				adm, err := c.Init(ctx)
				if err != nil {
					return err
				}
				return a.say(adm, "Cluster %s is made. On each further node, with orchd running:\n\n  %s\n\n%s", adm.ClusterID, joinLine(adm.Token), tokenLimits(adm.Token))
			})
		},
	}
}

func joinLine(t api.JoinToken) string { return "orchctl join " + t.Addr + " --token " + t.Token }

func tokenLimits(t api.JoinToken) string {
	return fmt.Sprintf("The token is a secret. It lets %d nodes in until %s; 'orchctl token rotate' makes a new one.", t.Uses, t.Expires.Local().Format(time.DateTime))
}

// maxToken is the longest token that is read, in bytes; one has 91.
const maxToken = 4 << 10

func (a *app) join() *cobra.Command {
	var token, file string
	cmd := &cobra.Command{
		Use: "join ADDR", Short: "Have this node join the cluster of the node at ADDR (IP:PORT of its API)", Args: cobra.ExactArgs(1),
		Long: `Have this node join the cluster of the node at ADDR (IP:PORT of its API).

The token, which 'orchctl init' and 'orchctl token show' print on a node of the cluster, is
taken from --token, from --token-file, or else from standard input. It may be given
again: a join that was cut off goes on.`,
		Example: "  orchctl join 10.0.0.1:7480 --token orch1-...\n  ssh 10.0.0.1 orchctl token show -q | orchctl join 10.0.0.1:7480",
		RunE: func(cmd *cobra.Command, args []string) error {
			if token != "" && file != "" {
				return errors.New("--token and --token-file: give one of them")
			}
			if token == "" {
				text, err := askToken(file, cmd.InOrStdin(), a.stderr)
				if err != nil {
					return err
				}
				token = text
			}
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				adm, err := c.Join(ctx, args[0], token)
				if err != nil {
					return err
				}
				return a.say(adm, "Joined cluster %s, %d nodes. See them with 'orchctl nodes'.", adm.ClusterID, len(adm.Nodes))
			})
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "the token (other users of this machine may see it while the command runs)")
	cmd.Flags().StringVar(&file, "token-file", "", "file that holds the token; - is standard input")
	return cmd
}

// askToken reads the token from a file or from standard input, where a person is asked
// and does not see it.
func askToken(file string, stdin io.Reader, stderr io.Writer) (string, error) {
	if file == "" {
		file = "-"
	}
	if in, ok := stdin.(*os.File); ok && file == "-" {
		if old, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err == nil {
			return typed(in, *old, stderr)
		}
	}
	b, err := readSecret(file, stdin, maxToken)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// typed reads a line from a terminal that does not show it.
func typed(in *os.File, old unix.Termios, stderr io.Writer) (string, error) {
	fmt.Fprint(stderr, "Token (it is not shown): ")
	quiet := old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &quiet); err != nil {
		return "", err
	}
	defer unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &old)
	defer fmt.Fprintln(stderr)
	b := make([]byte, maxToken)
	n, err := in.Read(b) // a terminal gives a line
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(b[:n])), nil
}

func (a *app) token() *cobra.Command {
	var quiet bool
	var ttl time.Duration
	var uses int
	print := func(t api.JoinToken) error {
		if quiet {
			_, err := fmt.Fprintln(a.stdout, t.Token)
			return err
		}
		if t.Uses == 0 || time.Now().After(t.Expires) {
			return a.say(t, "The token is void: it let in as many nodes as it was for, or expired at %s. 'orchctl token rotate' makes a new one.", t.Expires.Local().Format(time.DateTime))
		}
		return a.say(t, "On each further node, with orchd running:\n\n  %s\n\n%s", joinLine(t), tokenLimits(t))
	}
	show := &cobra.Command{
		Use: "show", Short: "Show the join token, and what to type on a new node", Args: cobra.NoArgs, Example: "  orchctl token show\n  orchctl token show -q > token",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				t, err := c.JoinToken(ctx)
				if err != nil {
					return err
				}
				return print(t)
			})
		},
	}
	rotate := &cobra.Command{
		Use: "rotate", Short: "Make a new join token; the one before is void", Args: cobra.NoArgs, Example: "  orchctl token rotate\n  orchctl token rotate --ttl 1h --uses 1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				t, err := c.NewJoinToken(ctx, ttl, uses)
				if err != nil {
					return err
				}
				return print(t)
			})
		},
	}
	rotate.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long it is valid, at most 720h")
	rotate.Flags().IntVar(&uses, "uses", 16, "how many nodes it lets in")
	cmd := &cobra.Command{Use: "token", Short: "The token by which nodes join", Example: "  orchctl token show"}
	for _, c := range []*cobra.Command{show, rotate} {
		c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing but the token")
		cmd.AddCommand(c)
	}
	return cmd
}

func (a *app) gossip() *cobra.Command {
	cmd := &cobra.Command{Use: "gossip", Short: "The key that gossip is encrypted with", Example: "  orchctl gossip rotate"}
	cmd.AddCommand(&cobra.Command{
		Use: "rotate", Short: "Exchange the gossip key now; it is exchanged each month by itself", Args: cobra.NoArgs, Example: "  orchctl gossip rotate",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				if err := c.RotateGossip(ctx); err != nil {
					return err
				}
				return a.say(map[string]bool{"rotating": true}, "The gossip key is being exchanged: 'orchctl trust' shows how far it is.")
			})
		},
	})
	return cmd
}

func (a *app) revoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Shut a person out at once", Args: cobra.ExactArgs(1), Example: "  orchctl revoke bob",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				o, err := c.Revoke(ctx, args[0])
				if err != nil {
					return err
				}
				return a.say(map[string]any{"revoked": args[0], "unconfirmed": o.Unconfirmed}, "%s is shut out%s", args[0], unconfirmed(o))
			})
		},
	}
}

// unconfirmed says where one who is shut out may still be let in, and for how long.
func unconfirmed(o api.ShutOut) (text string) {
	for _, id := range o.Unconfirmed {
		text += fmt.Sprintf("\nnode %s has not confirmed within 1 s; it refuses as soon as it hears of it", id)
	}
	return text
}

func (a *app) trust() *cobra.Command {
	return &cobra.Command{
		Use: "trust", Short: "Who may take part: CA, certificates, token, people", Args: cobra.NoArgs, Example: "  orchctl trust",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				t, err := c.Trust(ctx)
				if err != nil {
					return err
				}
				return a.print(t, func(w io.Writer) { trustTable(w, t) })
			})
		},
	}
}

func trustTable(w io.Writer, t api.Trust) {
	day := func(at time.Time) string { return at.Local().Format(time.DateTime) }
	fmt.Fprintf(w, "Certificate\tof node %s, until %s; renewed by itself at %s\n", t.Node.Node, day(t.Node.Until), day(t.Node.Renew))
	for _, a := range t.Authorities {
		what := "is trusted"
		if a.Signs {
			what = "signs"
		}
		fmt.Fprintf(w, "CA\t%.12s %s, until %s\n", a.Digest, what, day(a.Until))
	}
	for i, g := range t.Gossip {
		what := "is read"
		if i == 0 {
			what = "is written with"
		}
		fmt.Fprintf(w, "Gossip key\t%.8s %s, since %s\n", g.ID, what, day(g.Since))
	}
	fmt.Fprintf(w, "Join token\tlets %d nodes in until %s\n", t.Token.Uses, day(t.Token.Expires))
	if t.Pending != "" {
		fmt.Fprintf(w, "Waits\t%s\n", t.Pending)
	}
	if len(t.People) > 0 {
		fmt.Fprintln(w, "\nPERSON\tROLE\tUNTIL\tGRANTED BY")
	}
	for _, p := range t.People {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Name, p.Role, day(p.Until), p.By)
	}
	if len(t.Revoked) > 0 {
		fmt.Fprintln(w, "\nSHUT OUT\tSINCE, AND UNTIL THE CA IS EXCHANGED")
	}
	for _, r := range t.Revoked {
		fmt.Fprintf(w, "node %s\t%s\n", r.Node, day(r.Since))
	}
}

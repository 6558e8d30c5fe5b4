// Package lab runs clusters of the real programs on loopback, for the end-to-end
// tests and the benchmarks: each node is an orchd process on an address of its
// own, each container a real one.
//
// It promises to stop what it started, by process and by cluster ID, and to leave
// nothing behind. It never touches a process or a container of anybody else.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Programs are the built binaries and the image that a cluster runs.
type Programs struct {
	Dir    string // holds orchd, orchctl, acts
	Image  string // of acts; empty for the process engine
	Engine string // docker or process
}

// Build builds the programs of the checkout at root into dir, orchd with the race
// detector where race is set, and an image of acts where Docker answers.
func Build(ctx context.Context, root, dir string, race bool) (*Programs, error) {
	for _, name := range []string{"orchd", "orchctl", "acts"} {
		// As the Makefile does, whose results Go has kept; or as its tests are compiled.
		args, cgo := []string{"build", "-o", filepath.Join(dir, name), "-trimpath", "-tags=grpcnotrace"}, "CGO_ENABLED=0"
		if race && name == "orchd" {
			args, cgo = append(args[:3], "-race"), "CGO_ENABLED=1"
		}
		cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/"+name)...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	p := &Programs{Dir: dir, Engine: "process", Image: "acts:lab"}
	if exec.CommandContext(ctx, "docker", "version").Run() != nil {
		if os.Getenv("CI") == "true" {
			return nil, errors.New("no Docker Engine answers: the end-to-end tests need one (start dockerd)")
		}
		return p, nil
	}
	p.Engine = "docker"
	p.Image = fmt.Sprintf("acts:lab-%08x", rand.Uint32())
	return p, p.image(ctx, root)
}

func (p *Programs) image(ctx context.Context, root string) error {
	build := filepath.Join(p.Dir, "context")
	if err := os.MkdirAll(filepath.Join(build, "bin"), 0o755); err != nil {
		return err
	}
	acts, err := os.ReadFile(filepath.Join(p.Dir, "acts"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(build, "bin", "acts"), acts, 0o755); err != nil {
		return err
	}
	file := filepath.Join(root, "deploy", "Dockerfile.acts")
	if out, err := exec.CommandContext(ctx, "docker", "build", "-q", "-t", p.Image, "-f", file, build).CombinedOutput(); err != nil {
		return fmt.Errorf("build image: %w\n%s", err, out)
	}
	return nil
}

// Close removes the image.
func (p *Programs) Close() error {
	if p.Engine != "docker" {
		return nil
	}
	return exec.Command("docker", "rmi", "-f", p.Image).Run()
}

// Cluster is a set of nodes on loopback.
type Cluster struct {
	Programs *Programs
	Dir      string
	Nodes    []*Node
	// Load of this cluster may use it; it keeps connections alive.
	HTTP *http.Client
}

// New lays out n nodes on addresses that no other cluster of this machine has
// (127.R.R.1 to n, R chosen by chance); it starts nothing.
func New(p *Programs, dir string, n int) *Cluster {
	c := &Cluster{Programs: p, Dir: dir, HTTP: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	net := fmt.Sprintf("127.%d.%d", 10+rand.IntN(240), rand.IntN(256))
	for i := 1; i <= n; i++ {
		Add(c, fmt.Sprintf("n%d", i), fmt.Sprintf("%s.%d", net, i))
	}
	return c
}

// Add lays out one more node of a cluster, on an address of its range.
func Add(c *Cluster, id, ip string) *Node {
	n := &Node{ID: id, IP: ip, cluster: c, Dir: filepath.Join(c.Dir, id)}
	n.Socket = filepath.Join(n.Dir, "s")
	c.Nodes = append(c.Nodes, n)
	return n
}

// Up starts every node, makes the cluster, which they join at once, and applies a spec
// file.
func (c *Cluster) Up(ctx context.Context, spec string) error {
	var starting errgroup.Group
	for _, n := range c.Nodes {
		starting.Go(func() error { return n.Start(ctx) })
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	if len(c.Nodes) == 0 {
		return nil
	}
	if _, err := c.Nodes[0].Ctl(ctx, "init"); err != nil {
		return err
	}
	var joining errgroup.Group
	for _, n := range c.Nodes[1:] {
		joining.Go(func() error {
			_, err := n.Join(ctx, c.Nodes[0])
			return err
		})
	}
	if err := joining.Wait(); err != nil || spec == "" {
		return err
	}
	_, err := c.Nodes[0].Ctl(ctx, "apply", "--yes", "-f", spec)
	return err
}

// Spec writes a spec for acts from YAML lines and returns its path; IMAGE stands
// for the image built.
func (c *Cluster) Spec(name, yaml string) (string, error) {
	path := filepath.Join(c.Dir, name+".yaml")
	return path, os.WriteFile(path, []byte(strings.ReplaceAll(yaml, "IMAGE", c.Programs.Image)), 0o600)
}

// Leader asks the living nodes who leads, until one is known and alive.
func (c *Cluster) Leader(ctx context.Context) (*Node, error) {
	var leader *Node
	err := Until(ctx, 20*time.Millisecond, func() error {
		for _, n := range c.Nodes {
			s, err := n.Status(ctx)
			if err != nil {
				continue
			}
			for _, l := range c.Nodes {
				if l.ID == s.Leader && l.Running() {
					leader = l
					return nil
				}
			}
		}
		return errors.New("no living node names a living leader")
	})
	return leader, err
}

// Down kills every node and removes every container and volume of the cluster.
func (c *Cluster) Down() error {
	for _, n := range c.Nodes {
		n.Kill()
	}
	var purging sync.WaitGroup
	errs := make([]error, len(c.Nodes))
	for i, n := range c.Nodes {
		purging.Go(func() { errs[i] = n.purge() })
	}
	purging.Wait()
	c.HTTP.CloseIdleConnections()
	return errors.Join(errs...)
}

// purge removes what a node has left, also of clusters that it was in before.
func (n *Node) purge() error {
	data := filepath.Join(n.Dir, "data")
	aside, err := filepath.Glob(filepath.Join(data, "left-*"))
	for _, dir := range append(aside, data) {
		if _, err := os.Stat(filepath.Join(dir, "node.json")); err != nil {
			continue
		}
		args := append([]string{"purge"}, n.args()...)
		out, failed := exec.Command(filepath.Join(n.cluster.Programs.Dir, "orchd"), append(args, "--data-dir="+dir)...).CombinedOutput()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("purge %s: %w\n%s", n.ID, failed, out))
		}
	}
	return err
}

// ErrEnded is wrapped by errors that no waiting mends.
var ErrEnded = errors.New("ended")

// Until calls f each interval until it returns nil or ErrEnded; when ctx ends first,
// its last error is returned.
func Until(ctx context.Context, interval time.Duration, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := f()
		if err == nil || errors.Is(err, ErrEnded) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting: %w", err)
		case <-tick.C:
		}
	}
}

// Docker runs the docker command, for faults from outside.
func Docker(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return strings.TrimSpace(string(out)), nil
}

// ContainerID asks Docker for the container behind a row, by the address that it is
// published on.
func ContainerID(ctx context.Context, r Row) (string, error) {
	out, err := Docker(ctx, "ps", "--no-trunc", "--filter", "label=orch.service="+r.Service, "--format", "{{.ID}} {{.Ports}}")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if id, ports, _ := strings.Cut(line, " "); strings.Contains(ports, r.Addr+"->") {
			return id, nil
		}
	}
	return "", fmt.Errorf("no container is published on %s; docker ps says:\n%s", r.Addr, out)
}

func drain(r io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	r.Close()
}

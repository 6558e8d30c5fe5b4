package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/stdcopy"
)

// Inspect returns one container by ID or name.
func (d *Docker) Inspect(ctx context.Context, id string) (Container, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if err := d.connect(ctx); err != nil {
		return Container{}, err
	}
	r, err := d.cli.ContainerInspect(ctx, id)
	if err != nil {
		return Container{}, fmt.Errorf("inspect %.64s: %w", id, classify(err))
	}
	c := Container{ID: r.ID, Name: strings.TrimPrefix(r.Name, "/"), Image: r.Config.Image, Labels: r.Config.Labels}
	c.Created, _ = time.Parse(time.RFC3339Nano, r.Created)
	if r.State != nil {
		c.State, c.ExitCode, c.Reason = r.State.Status, r.State.ExitCode, r.State.Error
		if r.State.OOMKilled {
			c.Reason = "out of memory"
		}
	}
	for port, bindings := range r.HostConfig.PortBindings {
		for _, b := range bindings {
			c.HostIP = b.HostIP
			c.HostPort, _ = strconv.Atoi(b.HostPort)
		}
		if c.State == stateRunning && r.NetworkSettings != nil {
			c.Addr = bridgeAddr(r.NetworkSettings.Networks, port.Port())
		}
	}
	return c, nil
}

// bridgeAddr is where this machine dials a container past Docker's userland proxy,
// which accepts before anybody listens and halves the throughput.
func bridgeAddr(nets map[string]*network.EndpointSettings, port string) string {
	if e := nets[network.NetworkBridge]; e != nil && e.IPAddress != "" {
		return net.JoinHostPort(e.IPAddress, port)
	}
	return ""
}

// List returns every container that has all labels, running or not.
func (d *Docker) List(ctx context.Context, labels map[string]string) ([]Container, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if err := d.connect(ctx); err != nil {
		return nil, err
	}
	list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: labelFilter(labels)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", classify(err))
	}
	out := make([]Container, 0, len(list))
	for _, s := range list {
		if c, whole := fromSummary(s); whole {
			out = append(out, c)
			continue
		}
		c, err := d.Inspect(ctx, s.ID)
		if errors.Is(err, ErrNotFound) {
			continue // gone since
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// fromSummary reads a container that runs from its line in the list, and saves the
// question per container that a pass each second would cost. Of any other the line
// lacks the port and the exit code.
func fromSummary(s container.Summary) (Container, bool) {
	if s.State != stateRunning || len(s.Names) == 0 || s.NetworkSettings == nil {
		return Container{}, false
	}
	c := Container{
		ID: s.ID, Name: strings.TrimPrefix(s.Names[0], "/"), Image: s.Image, Labels: s.Labels,
		State: s.State, Created: time.Unix(s.Created, 0),
	}
	for _, p := range s.Ports {
		if p.PublicPort != 0 && p.Type == "tcp" {
			c.HostIP, c.HostPort = p.IP, int(p.PublicPort)
			c.Addr = bridgeAddr(s.NetworkSettings.Networks, strconv.Itoa(int(p.PrivatePort)))
		}
	}
	return c, c.HostPort != 0 && c.Addr != ""
}

func labelFilter(labels map[string]string) filters.Args {
	f := filters.NewArgs()
	for k, v := range labels {
		f.Add("label", k+"="+v)
	}
	return f
}

// Logs copies a container's standard output and error to w: the last tail lines,
// or all with tail 0 or less; with follow until the container ends or ctx does.
func (d *Docker) Logs(ctx context.Context, id string, follow bool, tail int, w io.Writer) error {
	if err := d.connect(ctx); err != nil {
		return err
	}
	opts := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: "all"}
	if tail > 0 {
		opts.Tail = strconv.Itoa(tail)
	}
	r, err := d.cli.ContainerLogs(ctx, id, opts)
	if err != nil {
		return fmt.Errorf("logs of %.12s: %w", id, classify(err))
	}
	defer r.Close()
	if _, err := stdcopy.StdCopy(w, w, r); err != nil && ctx.Err() == nil {
		return fmt.Errorf("logs of %.12s: %w", id, err)
	}
	return nil
}

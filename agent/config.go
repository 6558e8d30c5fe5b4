// Package agent is one node of the cluster: it wires consensus, membership,
// control, worker, proxy and API together, starts them in order and stops them
// in reverse. It owns the data folder and what of it outlives a restart.
//
// It promises that Run returns only when everything it started has ended, and
// that containers go on running when it does. It decides nothing: plans are made
// in control, requests are picked in proxy.
package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/agent/backup"
)

// Ports of a node, as docs/operations.md lists them.
const (
	PortProxy   = 80
	PortTLS     = 443
	PortAPI     = 7480
	PortRaft    = 7481
	PortGossip  = 7482
	PortMetrics = 7483
)

// Config is everything a node is told at its start. Fields bear the names of
// orchd's flags.
type Config struct {
	NodeID      string // node-id
	DataDir     string // data-dir: raft.db, snapshots, identity; mode 0700
	VolumeDir   string // volume-dir: folders that containers share
	Addr        string // addr: host that peers reach and that containers are published on
	ProxyAddr   string // proxy-addr: host:port, public
	APIAddr     string // api-addr: host:port
	RaftAddr    string // raft-addr: host:port
	GossipAddr  string // gossip-addr: host:port
	MetricsAddr string // metrics-addr: host:port, loopback only
	Socket      string // socket: path of the operator's unix socket
	Engine      string // engine: docker or process
	// ProcessImages maps an image to the executable that the process engine
	// runs for it (process-image IMAGE=PATH).
	ProcessImages map[string]string
	Firewall      string        // firewall: auto or off
	SocketGroup   string        // socket-group: who besides this user may use the socket; empty for nobody
	Profile       string        // profile: lan, cloud or wan
	Version       string        // of this program, told to the others
	SnapshotTo    string        // snapshot-to: folder or s3:// that the leader keeps files of the state in; empty for none
	SnapshotEvery time.Duration // snapshot-every
	SnapshotKeep  int           // snapshot-keep: files

	Requests Requests // how requests are served

	Logger   *slog.Logger
	Registry *prometheus.Registry
}

// Default returns the configuration of a node alone on its machine.
func Default() Config {
	host, err := os.Hostname()
	if err != nil || !nodeRE.MatchString(strings.ToLower(host)) {
		host = "node"
	}
	return Config{
		NodeID: strings.ToLower(host), DataDir: "/var/lib/orchd", Addr: "127.0.0.1",
		Socket: "/run/orchd/orchd.sock", SocketGroup: "orch", Engine: "docker", Firewall: firewallAuto, Profile: "lan",
		MetricsAddr: fmt.Sprintf("127.0.0.1:%d", PortMetrics), SnapshotEvery: time.Hour, SnapshotKeep: 48,
		Requests: defaultRequests(),
	}
}

// Complete fills the addresses that follow from others.
func (c Config) Complete() Config {
	at := func(p *string, port int) {
		if *p == "" {
			*p = net.JoinHostPort(c.Addr, fmt.Sprint(port))
		}
	}
	at(&c.ProxyAddr, PortProxy)
	at(&c.APIAddr, PortAPI)
	at(&c.RaftAddr, PortRaft)
	at(&c.GossipAddr, PortGossip)
	if c.Requests.TLSCert != "" {
		at(&c.Requests.TLSAddr, PortTLS)
	}
	if c.VolumeDir == "" {
		c.VolumeDir = filepath.Join(c.DataDir, "volumes")
	}
	return c
}

// minSnapshotEvery keeps a place from being flooded: a file is up to 2 MiB.
const minSnapshotEvery = 10 * time.Second

// ownProxy is where the containers of this machine reach its proxy, which may listen
// on every address.
func (c Config) ownProxy() string {
	host, port, err := net.SplitHostPort(c.ProxyAddr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort(c.Addr, port)
	}
	return c.ProxyAddr
}

var nodeRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// Validate says everything that is wrong, one line a fault: the flag, its value
// and what would be right.
func (c Config) Validate() error {
	var faults []error
	fault := func(flag, value, want string) {
		faults = append(faults, fmt.Errorf("--%s %q: %s", flag, value, want))
	}
	if !nodeRE.MatchString(c.NodeID) {
		fault("node-id", c.NodeID, "use 1 to 63 lower-case letters, digits, dots and dashes")
	}
	if c.DataDir == "" {
		fault("data-dir", c.DataDir, "name a folder that only this node uses")
	}
	// A container's port is published on this address; every address of the
	// machine would go past the host's firewall.
	if ip := net.ParseIP(c.Addr); ip == nil || ip.IsUnspecified() {
		fault("addr", c.Addr, "give the one IP address at which the other nodes reach this machine")
	}
	for _, a := range []struct{ flag, value string }{
		{"proxy-addr", c.ProxyAddr}, {"api-addr", c.APIAddr}, {"raft-addr", c.RaftAddr}, {"gossip-addr", c.GossipAddr}, {"metrics-addr", c.MetricsAddr},
	} {
		host, port, err := net.SplitHostPort(a.value)
		if _, perr := net.LookupPort("tcp", port); err != nil || perr != nil {
			fault(a.flag, a.value, "write it as IP:PORT")
			continue
		}
		switch ip := net.ParseIP(host); {
		case a.flag == "proxy-addr" && (host == "" || ip != nil):
		case ip == nil || ip.IsUnspecified():
			fault(a.flag, a.value, "name one IP address of this machine")
		case ip.IsLoopback():
		case a.flag == "metrics-addr":
			fault(a.flag, a.value, "metrics are served on loopback only, for example 127.0.0.1:7483")
		}
	}
	if c.Socket == "" || len(c.Socket) > 100 {
		fault("socket", c.Socket, "give a path of at most 100 bytes (a limit of unix sockets)")
	}
	if c.Engine != "docker" && c.Engine != "process" {
		fault("engine", c.Engine, `choose "docker" or "process"`)
	}
	if c.Engine == "process" && len(c.ProcessImages) == 0 {
		fault("process-image", "", "the process engine needs at least one IMAGE=PATH")
	}
	if c.Firewall != firewallAuto && c.Firewall != firewallOff {
		fault("firewall", c.Firewall, `choose "auto" or "off"`)
	}
	if c.SnapshotTo != "" {
		if err := backup.CheckPlace(c.SnapshotTo); err != nil {
			fault("snapshot-to", c.SnapshotTo, "give the absolute path of a folder, or s3://BUCKET?region=REGION")
		}
		if c.SnapshotEvery < minSnapshotEvery {
			fault("snapshot-every", c.SnapshotEvery.String(), fmt.Sprintf("choose %s or more", minSnapshotEvery))
		}
		if c.SnapshotKeep < 1 {
			fault("snapshot-keep", fmt.Sprint(c.SnapshotKeep), "keep at least 1 file")
		}
	}
	if c.Profile != "lan" && c.Profile != "cloud" && c.Profile != "wan" {
		fault("profile", c.Profile, `choose "lan", "cloud" or "wan"`)
	}
	c.Requests.validate(fault)
	return errors.Join(faults...)
}

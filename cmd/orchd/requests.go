package main

import (
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"orch/agent"
	"orch/proxy"
)

// requestFlags are the flags of how a node serves requests.
func requestFlags(root *cobra.Command, r *agent.Requests) {
	f := root.PersistentFlags()
	f.StringVar(&r.TLSAddr, "tls-addr", "", "public address of the proxy over TLS (default ADDR:443 with --tls-cert)")
	f.StringVar(&r.TLSCert, "tls-cert", "", "PEM file of the certificate, read again when it changes; without it there is no TLS")
	f.StringVar(&r.TLSKey, "tls-key", "", "PEM file of the certificate's key, read again when it changes")
	f.StringSliceVar(&r.TrustedProxies, "trusted-proxies", nil, "addresses and prefixes of proxies before this one, whose X-Forwarded-… and Forwarded are passed on")
	f.IntVar(&r.AccessLog, "access-log", r.AccessLog, "log one of so many requests; 1 is all, 0 none")
	f.IntVar(&r.MaxConns, "max-connections", r.MaxConns, "most client connections of this node")
	f.IntVar(&r.MaxInFlight, "max-in-flight", r.MaxInFlight, "most requests in flight from this node to one container; more wait")
	f.IntVar(&r.MaxQueue, "max-queue", r.MaxQueue, "most requests of a service that wait for a container with room")
	f.IntVar(&r.MaxHead, "max-head", r.MaxHead, "most bytes of a request's head")
	f.IntVar(&r.MaxFields, "max-fields", r.MaxFields, "most fields of a request's head")
	f.IntVar(&r.MaxTarget, "max-target", r.MaxTarget, "most bytes of a request's target")
	f.IntVar(&r.MinBodyRate, "min-body-rate", r.MinBodyRate, "least bytes a second of a request's body, after half a minute")
	f.DurationVar(&r.Hold, "hold", r.Hold, "how long a request waits for a container when none is in rotation or all are full")
	f.DurationVar(&r.DialTimeout, "dial-timeout", r.DialTimeout, "how long a connection to a container may take")
	f.DurationVar(&r.HeadTimeout, "head-timeout", r.HeadTimeout, "how long a request's head may take from its first byte")
	f.DurationVar(&r.BodyTimeout, "body-timeout", r.BodyTimeout, "how long a request's body, or a client that takes an answer, may pause")
	f.DurationVar(&r.IdleTimeout, "idle-timeout", r.IdleTimeout, "how long a client's connection may wait for its next request")
	f.DurationVar(&r.GoneAfter, "gone-after", r.GoneAfter, "how long a container may be silent before it is let go because its client has closed its side")
	f.DurationVar(&r.MinBodyAfter, "min-body-after", r.MinBodyAfter, "from when on a request's body has to come at --min-body-rate")
	f.DurationVar(&r.QuietTimeout, "quiet-timeout", r.QuietTimeout, "how long a container may pause in the middle of an answer")
}

// setProcs gives the runtime the Ps that the proxy is fastest with, unless the
// environment says how many.
func setProcs() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(proxy.Procs(runtime.GOMAXPROCS(0)))
	}
}

package engine

import (
	"errors"
	"io"
	"net"
	"testing"
)

func portOfContainer(t *testing.T, b bench) {
	holder := b.spec(t)
	b.run(t, holder)
	answers(t, holder.addr(), holder.Name)
	s := holder
	s.Name += "-second"
	t.Cleanup(func() { b.kill(t, s.Name) })
	if _, err := b.Run(t.Context(), s); !errors.Is(err, ErrPortTaken) {
		t.Fatalf("run on a container's port: %v; want ErrPortTaken", err)
	}
	b.absent(t, s.Name) // keeps no name
}

func portOfProcess(t *testing.T, b bench) {
	s := b.spec(t)
	l, err := net.Listen("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := b.Run(t.Context(), s); !errors.Is(err, ErrPortTaken) {
		t.Fatalf("run on a process's port: %v; want ErrPortTaken", err)
	}
	b.absent(t, s.Name)
	l.Close()
	b.run(t, s)
	answers(t, s.addr(), s.Name)
}

func noImage(t *testing.T, b bench) {
	s := b.spec(t)
	if ok, err := b.HasImage(t.Context(), s.Image); !ok || err != nil {
		t.Fatalf("has image: %v, %v", ok, err)
	}
	s.Image = "orch-engine-test:not-" + built.run
	if ok, err := b.HasImage(t.Context(), s.Image); ok || err != nil {
		t.Fatalf("has an image that is not there: %v, %v", ok, err)
	}
	if _, err := b.Run(t.Context(), s); !errors.Is(err, ErrNoImage) {
		t.Fatalf("run of no image: %v; want ErrNoImage", err)
	}
	b.absent(t, s.Name)
}

func nameOfStranger(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	other := s
	other.Labels = map[string]string{"orch.test": built.run, "case": "somebody else"}
	other.HostPort = freePort(t)
	if _, err := b.Run(t.Context(), other); !errors.Is(err, ErrNameTaken) {
		t.Fatalf("run by a stranger's name: %v; want ErrNameTaken", err)
	}
	if b.state(t, c.ID) != "running" {
		t.Fatal("the stranger does not run any more")
	}
}

func refusedSpecs(t *testing.T, b bench) {
	for what, change := range map[string]func(*Spec){
		"no publish address":   func(s *Spec) { s.HostIP = "" },
		"all addresses":        func(s *Spec) { s.HostIP = "0.0.0.0" },
		"all addresses, v6":    func(s *Spec) { s.HostIP = "::" },
		"all, mapped into v6":  func(s *Spec) { s.HostIP = "::ffff:0.0.0.0" },
		"a name for addresses": func(s *Spec) { s.HostIP = "localhost" },
		"not this machine's":   func(s *Spec) { s.HostIP = "192.0.2.1" },
		"no port":              func(s *Spec) { s.HostPort = 0 },
		"a path as its name":   func(s *Spec) { s.Name = "../" + s.Name },
		"a relative volume":    func(s *Spec) { s.Mounts = []Mount{{Source: "here", Target: "/data"}} },
	} {
		s := b.spec(t)
		change(&s)
		c, err := b.Run(t.Context(), s)
		if err == nil {
			t.Errorf("%s: ran as %+v", what, c)
			b.kill(t, c.ID)
		}
	}
	if list, err := b.List(t.Context(), map[string]string{"orch.test": built.run, "case": t.Name()}); err != nil || len(list) != 0 {
		t.Fatalf("refused specs left %+v, %v", list, err)
	}
}

func notFound(t *testing.T, b bench) {
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.absent(t, "orch-engine-nobody")
	if err := b.Logs(t.Context(), "orch-engine-nobody", true, 0, io.Discard); !errors.Is(err, ErrNotFound) {
		t.Fatalf("logs of nobody: %v; want ErrNotFound", err)
	}
}

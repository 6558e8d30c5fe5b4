package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"orch/acts/contract"
	"orch/scripts/lab"
)

// TestContractThroughPort80: five containers in rotation on three nodes keep the whole
// contract: each request goes to the next one, and reads what the one before wrote.
func TestContractThroughPort80(t *testing.T) {
	c, ctx := cluster(t, 3, spec(5, 5))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 5); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	contract.Run(t, strings.TrimSuffix(c.Nodes[1].URL("/"), "/"), contract.Options{Internals: true})
}

// TestUsersApart: the same contract where the users are a service of their own, which
// acts asks through the proxy.
func TestUsersApart(t *testing.T) {
	c, ctx := cluster(t, 0, "")
	n := lab.Add(c, "n1", "127.0.77.1")
	if programs.Engine == "docker" { // a container does not reach a loopback address of the machine
		n.Extra = []string{"--proxy-addr=" + bridge(t) + ":" + lab.ProxyPort()}
	}
	if err := c.Up(ctx, ""); err != nil {
		t.Fatal(err)
	}
	both, err := os.ReadFile("../../deploy/users.yaml")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c, n, "users", strings.ReplaceAll(string(both), "acts:latest", "IMAGE"))
	for _, service := range []string{"acts", "users"} {
		if _, err := n.Ctl(ctx, "scale", service, "2"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Healthy(within(t, ctx, 60*time.Second), 4); err != nil {
		t.Fatal(err)
	}
	base := "http://" + n.IP + ":" + lab.ProxyPort()
	if n.Extra != nil {
		base = "http://" + strings.TrimPrefix(n.Extra[0], "--proxy-addr=")
	}
	err = lab.Until(within(t, ctx, 20*time.Second), 50*time.Millisecond, func() error {
		resp, err := c.HTTP.Get(base + "/api/v1/users")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	contract.Run(t, base, contract.Options{})
}

// TestImageHasActsAlone: as it is built for these tests by deploy/Dockerfile.acts, one
// layer on nothing, for a user who is nobody, and it starts with nothing to write to.
func TestImageHasActsAlone(t *testing.T) {
	if programs.Engine != "docker" {
		t.Skip("no Docker Engine")
	}
	for field, want := range map[string]string{
		"{{.Config.User}}":            "10001:10001",
		"{{len .RootFS.Layers}}":      "1", // COPY; anything but FROM scratch has its own before it
		"{{json .Config.Entrypoint}}": `["/acts"]`,
		"{{json .Config.Volumes}}":    "null",
	} {
		if got, err := lab.Docker(t.Context(), "image", "inspect", "-f", field, programs.Image); err != nil || got != want {
			t.Errorf("%s of the image is %s, %v; want %s", field, got, err, want)
		}
	}
	if out, err := lab.Docker(t.Context(), "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", programs.Image, "--version"); err != nil || !strings.Contains(out, "acts version") {
		t.Errorf("it says %s, %v", out, err)
	}
	id, err := lab.Docker(t.Context(), "create", programs.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Command("docker", "rm", "-f", id).Run()
	files, err := exec.CommandContext(t.Context(), "docker", "export", id).Output()
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(bytes.NewReader(files)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 && h.Name != "acts" { // what the engine mounts over is empty
			t.Errorf("the image has %s too", h.Name)
		}
	}
}

// bridge is this machine's address on Docker's own network.
func bridge(t *testing.T) string {
	t.Helper()
	i, err := net.InterfaceByName("docker0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := i.Addrs()
	if err != nil || len(addrs) == 0 {
		t.Fatalf("docker0 has no address: %v", err)
	}
	ip, _, err := net.ParseCIDR(addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return ip.String()
}

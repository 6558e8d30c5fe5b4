package main

import (
	"os"
	"strings"
	"testing"

	"orch/agent/pki"
	"orch/fsm"
)

// TestRestoreOfSecrets: what one cluster has sealed another can not open. Without the key
// of the first nothing is done, and what would be missing is named; with it the second
// seals the values anew, and nothing shows them.
func TestRestoreOfSecrets(t *testing.T) {
	old := served(t)
	old.key = pki.NewSealKey()
	const text = "postgres://user:hunter2@db"
	if err := os.WriteFile("acts.yaml", []byte("name: acts\nimage: acts:1\nsecret_env: {DSN: '"+text+"', B: x}\n---\nname: web\nimage: web:1\nroutes: [/web]\nport_base: 8100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "apply", "-f", "acts.yaml")
	file := t.TempDir() + "/monday.snap"
	must(t, "snapshot", "save", file)
	must(t, "snapshot", "restore", file, "--yes") // into the cluster that it is of: needs no key
	for name, content := range map[string][]byte{"old.key": pki.EncodeSealKey(old.key), "other.key": pki.EncodeSealKey(pki.NewSealKey()), "no.key": []byte("hunter2")} {
		if err := os.WriteFile(file+"."+name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	here := served(t)
	here.key = pki.NewSealKey()
	here.Store = fsm.NewStore()
	if _, err := here.ProposeHere(t.Context(), fsm.InitCluster{ClusterID: "c2"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "acts secret_env.B, acts secret_env.DSN: sealed by cluster c1, so that cluster c2 can not open it"},
		{[]string{"--cluster-key", file + ".other.key"}, "is it the key of cluster c1?"},
		{[]string{"--cluster-key", file + ".no.key"}, "64 hex digits"},
		{[]string{"--cluster-key", file + ".none"}, "no such file"},
	} {
		_, err := ctl(t, append([]string{"snapshot", "restore", file, "--yes"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v", c.args, err)
		}
	}
	if err := os.Chmod(file+".old.key", 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ctl(t, "snapshot", "restore", file, "--yes", "--cluster-key", file+".old.key"); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if n := len(here.View().Services); n != 0 {
		t.Fatalf("%d services were restored all the same", n)
	}
	if err := os.Chmod(file+".old.key", 0o600); err != nil {
		t.Fatal(err)
	}
	out := must(t, "snapshot", "restore", file, "--yes", "--cluster-key", file+".old.key")
	if !strings.Contains(out, "2 services restored") || strings.Contains(out, "hunter2") {
		t.Errorf("%s", out)
	}
	s, _ := here.View().Service("acts")
	if sealed := s.Spec.SecretEnv["DSN"]; !pki.SealedEnv(sealed) {
		t.Error("it stands open in the table")
	} else if got, err := pki.OpenEnv(here.key, "acts", "DSN", sealed); err != nil || got != text {
		t.Errorf("%q, %v", got, err)
	}
	if out := must(t, "snapshot", "restore", file, "--yes", "--cluster-key", file+".old.key"); !strings.Contains(out, "0 services restored") {
		t.Errorf("twice is not once:\n%s", out)
	}
	s.Spec.SecretEnv = map[string]string{"DSN": "another", "B": "x"}
	if s.Spec, _ = here.Seal(s.Spec); s.Spec.SecretEnv["DSN"] == "" {
		t.Fatal("not sealed")
	}
	if _, err := here.ProposeHere(t.Context(), fsm.PutService{Spec: s.Spec}); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "snapshot", "restore", file, "--yes", "--cluster-key", file+".old.key"); !strings.Contains(out, "acts      change") || !strings.Contains(out, "1 services restored") {
		t.Errorf("another value here:\n%s", out)
	}
}

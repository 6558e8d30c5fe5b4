package fsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// update writes fixtures that are not there yet; those that are stay as released.
var update = flag.Bool("update", false, "write missing golden fixtures")

// samples has every kind of command, and each of its fields set in one of them. A
// field that is added gets a sample of its own beside the released one.
func samples() map[string]Command {
	r := Row{Service: "acts", Number: 3, Generation: 2, Seen: 41}
	spec := Spec{
		Name: "acts", Image: "acts:1", Command: []string{"--x"}, Env: map[string]string{"A": "1", "B": "2"}, User: "10001:10001",
		Volumes: []Volume{{Name: "acts", Target: "/data"}}, ExposeInternal: true, DebugHeaders: true,
	}.WithDefaults()
	secret := spec
	secret.SecretEnv = map[string]string{"DSN": "sealed:AQID"}
	authority := Authority{Digest: "5fe1", Cert: []byte{0x30, 1}, Key: []byte{1, 2}, Since: 1_700_000_000_000}
	gossip := GossipKey{ID: "a1", Key: []byte{1, 3}, Since: 1_700_000_000_000}
	token := JoinToken{Digest: "d16e", Secret: []byte{1, 4}, Expires: 1_700_086_400_000, Uses: 16, Since: 1_700_000_000_000}
	return map[string]Command{
		"01-init-cluster":    InitCluster{ClusterID: "fd59c3aadec0714532edbfc99f35bd58"},
		"02-put-node":        PutNode{Node: Node{ID: "n1", Addr: "10.0.0.1", APIAddr: "10.0.0.1:7480", RaftAddr: "10.0.0.1:7481", GossipAddr: "10.0.0.1:7482", ProxyAddr: "10.0.0.1:80", Version: "1.0"}},
		"03-set-node-status": SetNodeStatus{ID: "n1", Seen: 7, Status: NodeDead, Reason: "gossip says dead"},
		"04-remove-node":     RemoveNode{ID: "n1"},
		"05-put-service":     PutService{Spec: spec, Seen: 5},
		"05-put-service-of":  PutService{Spec: spec, Base: 4, Restart: "b1946ac92492d234", ImageID: "sha256:17fd", By: "deploy-1", Why: "release 2"},
		"06-remove-service":  RemoveService{Name: "acts"},
		"07-scale-by-hand":   ScaleByHand{Service: "acts", Count: 5},
		"08-decide":          Decide{Service: "acts", Seen: 9, Decision: Decision{Desired: 4, Requests: 65, At: 1_700_000_000_000, Reason: "65 requests in 2m0s, 20 a container"}},
		"09-place":           Place{Service: "acts", Number: 3, Node: "n1", Port: 8002, Reason: "scale"},
		"09-place-stand-in":  Place{Service: "acts", Number: 4, Node: "n1", Port: 8003, StandIn: true},
		"10-set-status":      SetStatus{Row: r, Status: true, Reason: "healthy"},
		"11-relaunch":        Relaunch{Row: r, Node: "n2", Port: 8002, Failures: 1, Reason: "exit code 137"},
		"12-back-off":        BackOff{Row: r, RetryAt: 1_700_000_004_000, Failures: 2, Reason: "next try in 4s"},
		"13-drain":           Drain{Row: r, Deadline: 1_700_000_030_000, Reason: "fewer requests"},
		"14-stop":            Stop{Row: r, Reason: "released"},
		"15-forget":          Forget{Row: r, Reason: "node n1 is lost"},
		"16-observe":         Observe{Node: "n1", Service: "acts", Number: 3, Generation: 2, Phase: Running, LocalAddr: "172.17.0.4:8000", PortTaken: true, Reason: "why"},
		"16-observe-created": Observe{Node: "n1", Service: "acts", Number: 3, Generation: 2, Created: 31, Phase: Stopped, Reason: "exit code 137"},
		"17-take-turns":      TakeTurns{Service: "acts", Node: "n1", Epoch: 1_700_000_000_000_000_000, Seq: 12, Count: 40, Served: 38},
		"18-note":            Note{ID: "polled-n1-3", What: "polled", Service: "acts", Number: 1, Node: "n1", Reason: "why"},
		"20-renew":           Renew{Row: r, Node: "n2", Build: 4, Deadline: 1_700_000_030_000, Reason: "revision 4"},
		"21-roll-back":       RollBack{Service: "acts", Left: 4, To: 3, Failed: true, By: "the leader", Reason: "not healthy within 30s"},
		"22-end-rollout":     EndRollout{Service: "acts", Revision: 4, Outcome: Good, Reason: "3 containers"},
		"23-drain-node":      DrainNode{ID: "n1", Deadline: 1_700_000_600_000, By: "admin"},

		"01-init-cluster-trust": InitCluster{ClusterID: "fd59c3aadec0714532edbfc99f35bd58", Authority: &authority, Gossip: &gossip, Token: &token, By: "root on n1"},
		"03-set-node-status-by": SetNodeStatus{ID: "n1", Seen: 7, Status: NodeLeft, Reason: "it was removed by hand", Revoke: true, By: "alice"},
		"04-remove-node-by":     RemoveNode{ID: "n1", By: "alice"},
		"05-put-service-secret": PutService{Spec: secret},
		"06-remove-service-by":  RemoveService{Name: "acts", By: "alice"},
		"07-scale-by-hand-by":   ScaleByHand{Service: "acts", Count: 5, By: "alice"},
		"18-note-by":            Note{What: "transferred", By: "alice"},
		"30-admit":              Admit{Node: Node{ID: "n2", Addr: "10.0.0.2", APIAddr: "10.0.0.2:7480", RaftAddr: "10.0.0.2:7481", GossipAddr: "10.0.0.2:7482", ProxyAddr: "10.0.0.2:80", Version: "1.0", Key: "77aa"}, Token: token.Digest},
		"31-put-token":          PutToken{Token: token, By: "alice"},
		"32-grant":              Grant{Person: Person{Name: "bob", Role: RoleDeploy, Key: "88bb", Until: 1_731_536_000_000, By: "alice"}},
		"33-revoke":             Revoke{Name: "bob", By: "alice"},
		"34-add-authority":      AddAuthority{Seen: 12, Authority: authority, By: "alice"},
		"35-set-signer":         SetSigner{Seen: 13, Digest: authority.Digest},
		"36-drop-authority":     DropAuthority{Seen: 14, Digest: "0dd0"},
		"37-set-gossip-keys":    SetGossipKeys{Seen: 15, Keys: []GossipKey{gossip}, Reason: "a new key is read", By: "alice"},
	}
}

// golden returns the fixture of that name, which content becomes where there is none.
func golden(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *update {
		b, err = content, os.WriteFile(path, content, 0o644)
	}
	if err != nil {
		t.Fatalf("%v (a new command: run go test ./fsm -update)", err)
	}
	return b
}

// TestGoldenCommands: what this release writes is what every release reads.
func TestGoldenCommands(t *testing.T) {
	const stamp = 1_700_000_000_123
	kinds, set := map[Kind]bool{}, map[string]bool{}
	for name, c := range samples() {
		data, err := Encode(stamp, c)
		if err != nil {
			t.Fatal(err)
		}
		text := golden(t, name+".hex", []byte(hex.EncodeToString(data)+"\n"))
		released, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(released, data) {
			t.Errorf("%s is written as\n%q, released was\n%q", name, data, released)
		}
		at, got, err := Decode(released)
		if err != nil || at != stamp || !reflect.DeepEqual(got, c) {
			t.Errorf("%s is read as %d %#v, %v; want %#v", name, at, got, err, c)
		}
		kinds[c.Kind()] = true
		fields(reflect.ValueOf(c), func(name string, zero bool) {
			set[name] = set[name] || !zero
		})
	}
	for name, ok := range set {
		if !ok && !decidedElsewhere[name] {
			t.Errorf("no sample sets %s; add one and run go test ./fsm -update", name)
		}
	}
	for k, f := range formats {
		if f.decode != nil && (!kinds[Kind(k)] || f.version == 0) {
			t.Errorf("command %d has no fixture, or no version", k)
		}
	}
}

// decidedElsewhere are fields of Node that a PutNode carries and apply sets.
var decidedElsewhere = map[string]bool{"Node.Status": true, "Node.Reason": true, "Node.Since": true, "Node.Index": true, "Node.DrainDeadline": true, "Node.Leaves": true, "Person.Since": true}

// fields visits each field of a struct and of what it holds, as Type.Field.
func fields(v reflect.Value, visit func(name string, zero bool)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fields(v.Elem(), visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			fields(v.Index(i), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			visit(v.Type().Name()+"."+v.Type().Field(i).Name, v.Field(i).IsZero())
			fields(v.Field(i), visit)
		}
	}
}

// TestGoldenSnapshotOfEverything: no column is lost on the way through a snapshot.
func TestGoldenSnapshotOfEverything(t *testing.T) {
	spec := samples()["05-put-service-secret"].(PutService).Spec
	s := &State{
		ClusterID: "c1", Applied: 90, Term: 3, Changed: 88, Stamp: 1_700_000_000_123, TurnFloor: 5,
		Services: []Service{{
			Name: "acts", Spec: spec, Index: 7, Manual: 4, Removing: true, Turn: 70,
			Revisions: []Revision{
				{Number: 1, Build: 1, Spec: spec, At: 1_699_999_000_000, By: "admin", Why: "first", Outcome: Good, Ended: 1_699_999_001_000},
				{Number: 3, Build: 1, Spec: spec, ImageID: "sha256:17fd", At: 1_699_999_002_000, From: 1, Restart: "b1946ac9", Outcome: Failed, Reason: "not healthy", Ended: 1_699_999_003_000},
			},
			Buckets:  []Bucket{{1_699_999_999, 5}, {1_700_000_000, 12}},
			Decision: Decision{Desired: 4, Requests: 65, At: 1_699_999_998_000, Reason: "65 requests"},
		}},
		Containers: []Container{
			{Service: "acts", Number: 1, Generation: 2, Node: "n1", Port: 8000, Status: true, Desired: Running, Observed: Running,
				LocalAddr: "172.17.0.2:8000", Build: 1, Began: 1_699_999_980_000, Proven: true, StandIn: true, Image: "acts:1", ImageID: "sha256:17fd", Reason: "healthy", Failures: 1, Since: 1_699_999_990_000, Created: 8, Index: 60},
			{Service: "acts", Number: 2, Generation: 1, Node: "n1", Port: 8001, Desired: Draining, Observed: Stopped, PortTaken: true,
				RetryAt: 1_700_000_001_000, DrainDeadline: 1_700_000_030_000, NextNode: "n1", Build: 1, Image: "acts:1", Since: 1_699_999_991_000, Created: 9, Index: 61},
		},
		Nodes: []Node{{ID: "n1", Addr: "10.0.0.1", APIAddr: "10.0.0.1:7480", RaftAddr: "10.0.0.1:7481", GossipAddr: "10.0.0.1:7482",
			ProxyAddr: "10.0.0.1:80", Version: "1.0", Status: NodeSuspect, Reason: "gossip has doubts", Since: 1_699_999_000_000, DrainDeadline: 1_700_000_600_000, Key: "77aa", Index: 88}},
		Leases: []Lease{{Service: "acts", Node: "n1", Epoch: 6, Seq: 12, From: 30, Count: 40}},
		Events: []Event{{Index: 88, At: 1_699_999_000_000, Kind: "node-suspect", Service: "acts", Number: 1, Node: "n1", Reason: "gossip has doubts", By: "alice", ID: "x"}},
		Trust: Trust{
			Authorities: []Authority{{Digest: "5fe1", Cert: []byte{0x30, 1}, Key: []byte{1, 2}, Since: 1_700_000_000_000}}, Signer: "5fe1", Index: 80,
			Gossip:  []GossipKey{{ID: "a1", Key: []byte{1, 3}, Since: 1_700_000_000_000}},
			Token:   JoinToken{Digest: "d16e", Secret: []byte{1, 4}, Expires: 1_700_086_400_000, Uses: 16, Since: 1_700_000_000_000},
			People:  []Person{{Name: "bob", Role: RoleDeploy, Key: "88bb", Until: 1_731_536_000_000, Since: 1_700_000_000_000, By: "alice"}},
			Revoked: []Revocation{{Key: "99cc", Node: "n9", Until: 1_700_000_900_000}},
		},
	}
	later := &State{Applied: 1, Trust: Trust{Revoked: []Revocation{{Key: "99cc", Node: "n9", Since: 1_700_000_000_000, Left: true, Lost: true}}}}
	leaves := &State{Applied: 1, Nodes: []Node{{ID: "n1", Status: NodeDead, Leaves: true}}}
	set := map[string]bool{}
	for _, s := range []*State{s, later, leaves} {
		fields(reflect.ValueOf(*s), func(name string, zero bool) { set[name] = set[name] || !zero })
	}
	for name, ok := range set {
		if !ok {
			t.Errorf("%s is not set; put it into a fixture beside this one", name)
		}
	}
	for name, s := range map[string]*State{"snapshot-2": s, "snapshot-3": later, "snapshot-4": leaves} {
		data := snapshotBytes(t, s)
		released := golden(t, name, data)
		if !bytes.Equal(released, data) {
			t.Errorf("the state is written as\n%s, released was\n%s", data, released)
		}
		if back, err := ReadSnapshot(bytes.NewReader(released)); err != nil || !reflect.DeepEqual(back, s) {
			t.Errorf("%s is read as %+v, %v", name, back, err)
		}
	}
}

func TestGoldenSnapshot(t *testing.T) {
	s := table(t)
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true, Reason: "healthy"})
	s = must(t, s, TakeTurns{Service: "acts", Node: "n1", Epoch: 1, Seq: 1, Count: 10, Served: 9})
	data := snapshotBytes(t, s)
	released := golden(t, "snapshot-1", data)
	if !bytes.Equal(released, data) {
		t.Errorf("the state is written as\n%s, released was\n%s", data, released)
	}
	back, err := ReadSnapshot(bytes.NewReader(released))
	if err != nil || !bytes.Equal(snapshotBytes(t, back), released) {
		t.Errorf("the snapshot is read as %+v, %v", back, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := Encode(5, RemoveNode{ID: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	remade := func(kind, version byte, body string) []byte {
		b := append(bytes.Clone(good[:headLen]), body...)
		b[0], b[1] = kind, version
		sum := checksum(b)
		b[2], b[3], b[4], b[5] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		return b
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":          {nil, ErrCorrupt},
		"too short":        {good[:headLen-1], ErrCorrupt},
		"a bit turned":     {append(bytes.Clone(good[:len(good)-1]), '~'), ErrCorrupt},
		"a newer kind":     {remade(200, 1, "{}"), ErrUnknownCommand},
		"a newer version":  {remade(4, formats[4].version+1, "{}"), ErrUnknownCommand},
		"a newer field":    {remade(4, 1, `{"id":"n1","new":1}`), ErrCorrupt},
		"more than a body": {remade(4, 1, `{"id":"n1"}{}`), ErrCorrupt},
		"an end too many":  {remade(4, 1, `{"id":"n1"}}`), ErrCorrupt},
		"no body":          {remade(4, 1, ``), ErrCorrupt},
	} {
		if _, _, err := Decode(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Encode(0, Note{Reason: strings.Repeat("x", MaxCommand)}); err == nil {
		t.Error("a command beyond the limit was encoded")
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range samples() {
		data, err := Encode(7, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Whatever the bytes, the checksum shall not hide the rest of the decoder.
		data = bytes.Clone(data)
		if len(data) >= headLen {
			sum := checksum(data)
			data[2], data[3], data[4], data[5] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		stamp, c, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(stamp, c)
		if err != nil {
			return // it was below the limit with fewer escapes
		}
		at, same, err := Decode(again)
		if err != nil || at != stamp {
			t.Fatalf("%#v is not read back: %v", c, err)
		}
		twice, err := Encode(at, same)
		if err != nil || !bytes.Equal(again, twice) {
			t.Fatalf("%#v is written in two ways", c)
		}
		for _, s := range []*State{{}, table(t)} {
			if next, _, _ := Apply(s, s.Applied+1, 1, stamp, c); Check(next) != nil {
				t.Fatalf("%#v: %v", c, Check(next))
			}
		}
	})
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(snapshotBytes(f, table(f)))
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		// As above: past the checksum.
		data = bytes.Clone(data)
		if head := len(snapshotMagic) + 4; len(data) >= head {
			binary.BigEndian.PutUint32(data[head-4:], crc32.Checksum(data[head:], castagnoli))
		}
		s, err := ReadSnapshot(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := Check(s); err != nil {
			t.Fatal(err)
		}
		written := snapshotBytes(t, s)
		back, err := ReadSnapshot(bytes.NewReader(written))
		if err != nil || !bytes.Equal(written, snapshotBytes(t, back)) {
			t.Fatalf("it is written as something else than what was read: %v", err)
		}
		// A state that was accepted can be asked and changed.
		for name, c := range samples() {
			if next, _, err := Apply(s, s.Applied+1, s.Term, s.Stamp, c); err == nil && next.Applied != s.Applied+1 {
				t.Fatalf("%s: applied %d after %d", name, next.Applied, s.Applied)
			}
		}
		for _, sv := range s.Services {
			s.TurnRow(sv.Name)
			sv.Requests(s.Stamp, int64(sv.Spec.Scale.Window)/1e6)
		}
	})
}

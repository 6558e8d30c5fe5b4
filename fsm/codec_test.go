package fsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// update writes fixtures that are not there yet; those that are stay as released.
var update = flag.Bool("update", false, "write missing golden fixtures")

// samples has one command of every kind with every field set.
func samples() map[string]Command {
	r := Row{Service: "acts", Number: 3, Generation: 2, Seen: 41}
	spec := Spec{
		Name: "acts", Image: "acts:1", Command: []string{"--x"}, Env: map[string]string{"A": "1", "B": "2"}, User: "10001:10001",
		Volumes: []Volume{{Name: "acts", Target: "/data"}}, ExposeInternal: true, DebugHeaders: true,
	}.WithDefaults()
	return map[string]Command{
		"01-init-cluster":    InitCluster{ClusterID: "fd59c3aadec0714532edbfc99f35bd58"},
		"02-put-node":        PutNode{Node: Node{ID: "n1", Addr: "10.0.0.1", APIAddr: "10.0.0.1:7480", RaftAddr: "10.0.0.1:7481", GossipAddr: "10.0.0.1:7482", ProxyAddr: "10.0.0.1:80", Version: "1.0"}},
		"03-set-node-status": SetNodeStatus{ID: "n1", Seen: 7, Status: NodeDead, Reason: "gossip says dead"},
		"04-remove-node":     RemoveNode{ID: "n1"},
		"05-put-service":     PutService{Spec: spec, Seen: 5},
		"06-remove-service":  RemoveService{Name: "acts"},
		"07-scale-by-hand":   ScaleByHand{Service: "acts", Count: 5},
		"08-decide":          Decide{Service: "acts", Seen: 9, Decision: Decision{Desired: 4, Requests: 65, At: 1_700_000_000_000, Reason: "65 requests in 2m0s, 20 a container"}},
		"09-place":           Place{Service: "acts", Number: 3, Node: "n1", Port: 8002, Reason: "scale"},
		"10-set-status":      SetStatus{Row: r, Status: true, Reason: "healthy"},
		"11-relaunch":        Relaunch{Row: r, Node: "n2", Port: 8002, Failures: 1, Reason: "exit code 137"},
		"12-back-off":        BackOff{Row: r, RetryAt: 1_700_000_004_000, Failures: 2, Reason: "next try in 4s"},
		"13-drain":           Drain{Row: r, Deadline: 1_700_000_030_000, Reason: "fewer requests"},
		"14-stop":            Stop{Row: r, Reason: "released"},
		"15-forget":          Forget{Row: r, Reason: "node n1 is lost"},
		"16-observe":         Observe{Node: "n1", Service: "acts", Number: 3, Generation: 2, Phase: Running, LocalAddr: "172.17.0.4:8000", PortTaken: true, Reason: "why"},
		"17-take-turns":      TakeTurns{Service: "acts", Node: "n1", Epoch: 1_700_000_000_000_000_000, Seq: 12, Count: 40, Served: 38},
		"18-note":            Note{ID: "polled-n1-3", What: "polled", Service: "acts", Number: 1, Node: "n1", Reason: "why"},
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
	kinds := map[Kind]bool{}
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
	}
	for k := Kind(0); k < 255; k++ {
		if _, err := decodeBody(k, []byte("{}")); !errors.Is(err, ErrUnknownCommand) && !kinds[k] {
			t.Errorf("command %d has no fixture", k)
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
		"a newer version":  {remade(4, 2, "{}"), ErrUnknownCommand},
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
		Apply(&State{}, 1, 1, stamp, c) // must not panic
	})
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(snapshotBytes(f, table(f)))
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadSnapshot(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := Check(s); err != nil {
			t.Fatal(err)
		}
	})
}

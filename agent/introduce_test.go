package agent

import (
	"reflect"
	"testing"

	"orch/fsm"
)

// TestIntroductionEnds: each column of a node is either its own to tell, and news where
// the table has another, or kept as the table has it. One that were neither would have
// the node propose itself every second for ever.
func TestIntroductionEnds(t *testing.T) {
	n := &Node{trust: newRealm(t).node("n1"), cfg: Config{
		NodeID: "n1", Addr: "10.0.0.1", APIAddr: "10.0.0.1:7480", RaftAddr: "10.0.0.1:7481", GossipAddr: "10.0.0.1:7482", ProxyAddr: "10.0.0.1:80", Version: "v1",
	}}
	told := n.self()
	old := told
	columns := reflect.ValueOf(&old).Elem()
	set := func(c reflect.Value) {
		switch c.Kind() {
		case reflect.String:
			c.SetString(string(fsm.NodeDead)) // a status, and a word like any other
		case reflect.Bool:
			c.SetBool(true)
		case reflect.Int64:
			c.SetInt(7)
		case reflect.Uint64:
			c.SetUint(7)
		default:
			t.Fatalf("a column of kind %s: say here what is not its zero", c.Kind())
		}
	}
	for i := range columns.NumField() {
		if c := columns.Field(i); c.IsZero() {
			set(c)
		}
	}
	if n.differs(old) {
		t.Errorf("a node that the table has so introduces itself: %+v", old)
	}
	table := &fsm.State{Applied: 9, Nodes: []fsm.Node{old}}
	next, _, err := fsm.Apply(table, 10, 1, 8, fsm.PutNode{Node: told})
	if err != nil || next.Nodes[0] != old || next.Changed != table.Changed {
		t.Errorf("its word changes what is not its own to tell: %+v, %v", next.Nodes, err)
	}
	for i := range columns.NumField() {
		name := columns.Type().Field(i).Name
		if reflect.ValueOf(told).Field(i).IsZero() || name == "ID" {
			continue
		}
		was := columns.Field(i).Interface()
		set(columns.Field(i))
		if !n.differs(old) {
			t.Errorf("another %s is no news", name)
		}
		columns.Field(i).Set(reflect.ValueOf(was))
	}
}

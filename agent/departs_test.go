package agent

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orch/agent/api"
	"orch/fsm"
)

// TestLeavesOnlyWhenTheOthersSaySo: a node that joins anew reads in the log that it had
// left once; what the others say now is what counts.
func TestLeavesOnlyWhenTheOthersSaySo(t *testing.T) {
	for name, c := range map[string]struct {
		say  []fsm.NodeStatus // what each other node says of n1
		want bool
	}{
		"all say left":           {[]fsm.NodeStatus{fsm.NodeLeft, fsm.NodeLeft}, true},
		"one that lags does":     {[]fsm.NodeStatus{fsm.NodeLeft, fsm.NodeAlive}, false},
		"nobody does":            {[]fsm.NodeStatus{fsm.NodeAlive, fsm.NodeAlive}, false},
		"it is still on its way": {[]fsm.NodeStatus{fsm.NodeDraining, fsm.NodeLeft}, false},
		"nobody is there":        {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := &Node{cfg: Config{NodeID: "n1"}, store: fsm.NewStore()}
			n.peers = newPeers(n)
			n.peers.transport.DialContext = (&net.Dialer{}).DialContext
			defer n.peers.close()
			index := uint64(0)
			do := func(c fsm.Command) { index++; apply(t, n.store, index, c) }
			do(fsm.PutNode{Node: fsm.Node{ID: "n1", RaftAddr: "r1", APIAddr: "a1"}})
			for i, status := range c.say {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					json.NewEncoder(w).Encode([]api.NodeInfo{{ID: "n1", Status: status}})
				}))
				defer s.Close()
				addr := strings.TrimPrefix(s.URL, "http://")
				do(fsm.PutNode{Node: fsm.Node{ID: "n" + string(rune('2'+i)), RaftAddr: addr + "0", APIAddr: addr}})
			}
			self, _ := n.store.View().Node("n1")
			do(fsm.SetNodeStatus{ID: "n1", Seen: self.Index, Status: fsm.NodeLeft})
			if got := n.hear(context.Background(), true) == saidGone; got != c.want {
				t.Errorf("says left: %t, want %t", got, c.want)
			}
		})
	}
}

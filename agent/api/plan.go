package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"orch/fsm"
)

// Change is one key of a spec that is not what it was. Values of env are never shown.
type Change struct {
	Key  string `json:"key"`
	From string `json:"from"` // empty where it was not there
	To   string `json:"to"`   // empty where it will not be
}

// Plan is what applying a spec would do.
type Plan struct {
	Service string `json:"service"`
	// Base is the revision that the plan was made from, Revision the one it would make;
	// they are equal where nothing is to be done.
	Base     uint64    `json:"base"`
	Revision uint64    `json:"revision"`
	Changes  []Change  `json:"changes"`
	Rows     []PlanRow `json:"rows"`
}

// Idle says that there is nothing to do.
func (p Plan) Idle() bool { return p.Revision == p.Base }

// PlanRow is what becomes of one container.
type PlanRow struct {
	Number int    `json:"number"`
	Node   string `json:"node"` // empty where the leader will choose
	Port   int    `json:"port"`
	// Action is place (it is new), stand-in (it serves while others begin anew, and
	// goes), renew (it drains, and begins anew under its number and port) or keep.
	Action string `json:"action"`
	Reason string `json:"reason"`
}

// PlanOf says what applying spec to v would do, whose image means imageID; with restart
// every container begins anew, whatever has changed.
func PlanOf(v *fsm.State, spec fsm.Spec, imageID string, restart bool) Plan {
	sv, there := v.Service(spec.Name)
	base := sv.Newest().Number
	p := Plan{Service: spec.Name, Base: base, Revision: base, Changes: []Change{}, Rows: []PlanRow{}}
	if !there {
		p.Revision = 1
		for n := 1; n <= spec.Scale.Min; n++ {
			p.Rows = append(p.Rows, PlanRow{Number: n, Action: "place", Reason: "the service is new; it begins with scale.min"})
		}
		return p
	}
	p.Changes = Diff(sv.Spec, spec)
	retagged := sv.Newest().Retagged(spec, imageID)
	if retagged {
		p.Changes = append(p.Changes, Change{"image (built again)", brief(sv.Newest().ImageID), brief(imageID)})
	}
	if len(p.Changes) > 0 || restart || sv.Removing {
		p.Revision++
	}
	renew := restart || retagged || !fsm.SameContainers(sv.Spec, spec)
	highest, port := 0, 0
	for _, c := range v.Rows(spec.Name) {
		highest, port = max(highest, c.Number), max(port, c.Port)
		row := PlanRow{Number: c.Number, Node: c.Node, Port: c.Port, Action: "keep", Reason: "nothing of its container changes"}
		if renew {
			row.Action, row.Reason = "renew", fmt.Sprintf("drains when a stand-in is healthy, then begins anew with %s", spec.Image)
		}
		p.Rows = append(p.Rows, row)
	}
	if !renew {
		return p
	}
	first := len(p.Rows)
	for i := range min(spec.Rollout.Parallel, first) {
		p.Rows = append(p.Rows, PlanRow{Number: highest + 1 + i, Port: port + 1 + i, Action: "stand-in",
			Reason: fmt.Sprintf("first; unless it is healthy within %s the service goes back", time.Duration(spec.Rollout.HealthyWithin))})
	}
	slices.SortStableFunc(p.Rows, func(a, b PlanRow) int { return strings.Compare(b.Action, a.Action) }) // stand-ins first
	return p
}

// brief is an image's ID as Docker shows it.
func brief(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// Diff lists the keys in which two specs differ, sorted. What an environment value is
// stays unsaid: it may be a secret.
func Diff(a, b fsm.Spec) []Change {
	was, is := flat(a), flat(b)
	out := []Change{}
	for k, from := range was {
		if to, ok := is[k]; !ok || to != from {
			out = append(out, Change{k, from, to})
		}
	}
	for k, to := range is {
		if _, ok := was[k]; !ok {
			out = append(out, Change{k, "", to})
		}
	}
	for i := range out {
		if c := &out[i]; strings.HasPrefix(c.Key, "env.") || strings.HasPrefix(c.Key, "secret_env.") {
			c.From, c.To = hidden(c.From, "the value before"), hidden(c.To, "another value")
			if c.From == "" {
				c.To = "a value"
			}
		}
	}
	slices.SortFunc(out, func(x, y Change) int { return strings.Compare(x.Key, y.Key) })
	return out
}

func hidden(value, word string) string {
	if value == "" {
		return ""
	}
	return "(" + word + ")"
}

// flat is a spec as keys like scale.min and their JSON values.
func flat(s fsm.Spec) map[string]string {
	out := map[string]string{}
	b, err := json.Marshal(s)
	var top map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(b, &top)
	}
	if err != nil {
		return out // no spec that was read from JSON or YAML comes here
	}
	flatten(out, "", top)
	return out
}

func flatten(out map[string]string, path string, m map[string]json.RawMessage) {
	for k, raw := range m {
		var below map[string]json.RawMessage
		if json.Unmarshal(raw, &below) == nil {
			flatten(out, path+k+".", below)
			continue
		}
		out[path+k] = strings.Trim(string(raw), `"`)
	}
}

// RevisionInfo is a revision as `history` shows it.
type RevisionInfo struct {
	Revision uint64      `json:"revision"`
	Build    uint64      `json:"build"`
	Image    string      `json:"image"`
	At       time.Time   `json:"at"`
	By       string      `json:"by"`
	Why      string      `json:"why"`
	From     uint64      `json:"from"` // the revision it goes back to, or 0
	Outcome  fsm.Outcome `json:"outcome"`
	Reason   string      `json:"reason"`
	Changes  []Change    `json:"changes"` // against the one before
}

// History is the revisions of a service, the newest first.
func History(sv fsm.Service) []RevisionInfo {
	out := make([]RevisionInfo, 0, len(sv.Revisions))
	for i, r := range sv.Revisions {
		info := RevisionInfo{
			Revision: r.Number, Build: r.Build, Image: r.Spec.Image, At: time.UnixMilli(r.At).UTC(), By: r.By, Why: r.Why,
			From: r.From, Outcome: r.Outcome, Reason: r.Reason, Changes: []Change{},
		}
		if i > 0 {
			info.Changes = Diff(sv.Revisions[i-1].Spec, r.Spec)
		}
		out = append(out, info)
	}
	slices.Reverse(out)
	return out
}

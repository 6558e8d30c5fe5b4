package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"orch/fsm"
)

// Run reconciles until ctx ends, and returns when every operation it began has.
func (w *Worker) Run(ctx context.Context) error {
	poke, end := w.views.Subscribe()
	defer end()
	if err := w.cfg.CaughtUp(ctx); err != nil {
		return nil // ctx has ended: nothing was begun
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	events := w.engine.Events(ctx, w.labels())
	tick := time.NewTicker(w.cfg.Interval)
	defer tick.Stop()
	first := true
	for {
		if w.pass(ctx, &wg) && first {
			first = false
			close(w.reconciled)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-w.kick:
		case <-events:
		case <-tick.C:
		}
	}
}

// pass compares the table with the engine once and begins what is needed. It
// returns false where the engine did not answer.
func (w *Worker) pass(ctx context.Context, wg *sync.WaitGroup) bool {
	list, err := w.engine.List(ctx, w.labels())
	w.setImpaired(err)
	if err != nil {
		return false
	}
	view := w.views.View()
	wanted := map[string]bool{}
	for _, row := range view.RowsOn(w.cfg.Node) {
		name := w.name(row)
		wanted[name+"@"+created(row)] = true
		var now *Container
		var old []Container
		for _, c := range list {
			switch {
			case c.Name == name && c.Labels[LabelCreated] == created(row):
				now = &c
			case c.Labels[LabelService] == row.Service && c.Labels[LabelNumber] == strconv.Itoa(row.Number):
				old = append(old, c)
				wanted[c.Name+"@"+c.Labels[LabelCreated]] = true
			}
		}
		if op := w.operation(view, row, now, old); op != nil {
			w.begin(ctx, wg, key{service: row.Service, number: row.Number}, op)
		}
	}
	for _, c := range list {
		if wanted[c.Name+"@"+c.Labels[LabelCreated]] {
			delete(w.orphans, c.ID)
			continue
		}
		w.orphan(ctx, wg, c)
	}
	return true
}

// begin runs op beside the others unless the same row has one under way; a pass
// follows when it has ended.
func (w *Worker) begin(ctx context.Context, wg *sync.WaitGroup, k key, op func(context.Context)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[k] {
		return
	}
	w.busy[k] = true
	wg.Go(func() {
		select {
		case w.slots <- struct{}{}:
			op(ctx)
			<-w.slots
		case <-ctx.Done():
		}
		w.mu.Lock()
		delete(w.busy, k)
		w.mu.Unlock()
		w.poke()
	})
}

func (w *Worker) poke() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// operation is what a row needs now, or nil.
func (w *Worker) operation(view *fsm.State, row fsm.Container, now *Container, old []Container) func(context.Context) {
	switch {
	case row.Desired == fsm.Stopped:
		return func(ctx context.Context) { w.stop(ctx, view, row, now, old) }
	case row.Observed == fsm.Stopped || row.PortTaken:
		return nil // the leader's turn
	case now == nil && row.Observed == fsm.Running:
		return func(ctx context.Context) { w.observe(ctx, row, fsm.Stopped, "", "removed from outside") }
	case now == nil:
		return func(ctx context.Context) { w.start(ctx, view, row, old) }
	case now.State == "exited" || now.State == "dead":
		return func(ctx context.Context) { w.observe(ctx, row, fsm.Stopped, "", ending(*now)) }
	case now.State == "running" && (row.Observed != fsm.Running || row.LocalAddr != now.Addr):
		return func(ctx context.Context) { w.observe(ctx, row, fsm.Running, now.Addr, "") }
	case now.State == "created":
		return func(ctx context.Context) { w.start(ctx, view, row, old) }
	case len(old) > 0:
		return func(ctx context.Context) { w.killAll(ctx, old) }
	}
	return nil
}

func ending(c Container) string {
	if c.Reason != "" {
		return fmt.Sprintf("%s (exit code %d)", c.Reason, c.ExitCode)
	}
	return fmt.Sprintf("exit code %d", c.ExitCode)
}

// start makes room on the row's port and runs the row's generation.
func (w *Worker) start(ctx context.Context, view *fsm.State, row fsm.Container, old []Container) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	if !w.killAll(ctx, old) {
		return
	}
	sv, ok := view.Service(row.Service)
	if !ok {
		return
	}
	c, err := w.engine.Run(ctx, w.spec(row, sv.Spec))
	log := w.cfg.Logger.With("service", row.Service, "number", row.Number, "generation", row.Generation)
	if err == nil {
		log.Info("container runs", "port", row.Port, "addr", c.Addr)
		w.observe(ctx, row, fsm.Running, c.Addr, "")
		return
	}
	log.Warn("container not started", "reason", err)
	switch w.cfg.Classify(err) {
	case Unavailable:
		w.setImpaired(err)
	case PortTaken:
		w.propose(ctx, fsm.Observe{
			Node: w.cfg.Node, Service: row.Service, Number: row.Number, Generation: row.Generation, Phase: fsm.Pending,
			PortTaken: true, Reason: fmt.Sprintf("port %d is taken on %s", row.Port, w.cfg.Node),
		})
	case NoImage:
		w.observe(ctx, row, fsm.Stopped, "", fmt.Sprintf("image %s is not on %s: build or load it there", row.Image, w.cfg.Node))
	default:
		if ctx.Err() == nil {
			w.observe(ctx, row, fsm.Stopped, "", err.Error())
		}
	}
}

func (w *Worker) stop(ctx context.Context, view *fsm.State, row fsm.Container, now *Container, old []Container) {
	sv, _ := view.Service(row.Service)
	grace := time.Duration(sv.Spec.Grace)
	ctx, cancel := context.WithTimeout(ctx, operationTimeout+grace)
	defer cancel()
	if !w.killAll(ctx, old) {
		return
	}
	if now != nil {
		if err := w.engine.Stop(ctx, now.ID, grace); err != nil {
			w.cfg.Logger.Warn("container not stopped", "service", row.Service, "number", row.Number, "reason", err)
			return
		}
	}
	w.observe(ctx, row, fsm.Stopped, "", row.Reason)
}

func (w *Worker) killAll(ctx context.Context, list []Container) bool {
	for _, c := range list {
		if err := w.engine.Kill(ctx, c.ID); err != nil {
			w.cfg.Logger.Warn("container not removed", "name", c.Name, "reason", err)
			return false
		}
	}
	return true
}

// orphan stops a container that no row stands for, after its grace.
func (w *Worker) orphan(ctx context.Context, wg *sync.WaitGroup, c Container) {
	seen, ok := w.orphans[c.ID]
	if !ok {
		w.orphans[c.ID] = time.Now()
		w.cfg.Logger.Info("orphan", "name", c.Name, "stopped_in", w.cfg.OrphanGrace)
		return
	}
	if time.Since(seen) < w.cfg.OrphanGrace {
		return
	}
	w.begin(ctx, wg, key{id: c.ID}, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, operationTimeout)
		defer cancel()
		if w.killAll(ctx, []Container{c}) {
			w.cfg.Logger.Info("orphan stopped", "name", c.Name)
		}
	})
}

func (w *Worker) observe(ctx context.Context, row fsm.Container, p fsm.Phase, addr, reason string) {
	w.propose(ctx, fsm.Observe{
		Node: w.cfg.Node, Service: row.Service, Number: row.Number, Generation: row.Generation,
		Phase: p, LocalAddr: addr, Reason: reason,
	})
}

// propose reports once; what is not accepted is seen again by the next pass.
func (w *Worker) propose(ctx context.Context, c fsm.Observe) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	if _, err := w.prop.Propose(ctx, c); err != nil {
		w.cfg.Logger.Debug("report not accepted", "service", c.Service, "number", c.Number, "phase", c.Phase, "reason", err)
		return
	}
}

func (w *Worker) setImpaired(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && w.impaired != "":
		w.cfg.Logger.Info("container engine answers again", "after", time.Since(w.since))
		w.impaired = ""
	case err != nil && w.impaired == "":
		w.since = time.Now()
		w.cfg.Logger.Error("container engine does not answer", "reason", err)
		w.impaired = err.Error()
	}
}

// Labels of a container: whose it is and which row it stands for.
const (
	LabelCluster    = "orch.cluster"
	LabelNode       = "orch.node"
	LabelService    = "orch.service"
	LabelNumber     = "orch.number"
	LabelGeneration = "orch.generation"
	LabelCreated    = "orch.created"
)

func (w *Worker) labels() map[string]string {
	return map[string]string{LabelCluster: w.cfg.ClusterID, LabelNode: w.cfg.Node}
}

func created(row fsm.Container) string { return strconv.FormatUint(row.Created, 10) }

// name is derived, so that doing twice is doing once. Its end tells clusters that
// share an engine apart.
func (w *Worker) name(row fsm.Container) string {
	sum := sha256.Sum256([]byte(w.cfg.ClusterID))
	return fmt.Sprintf("%s-%d-%d-%s", row.Service, row.Number, row.Generation, hex.EncodeToString(sum[:3]))
}

func (w *Worker) spec(row fsm.Container, s fsm.Spec) Spec {
	labels := w.labels()
	labels[LabelService], labels[LabelNumber] = row.Service, strconv.Itoa(row.Number)
	labels[LabelGeneration], labels[LabelCreated] = strconv.FormatUint(row.Generation, 10), created(row)
	out := Spec{
		Name: w.name(row), Image: s.Image, Labels: labels, Command: s.Command, User: s.User,
		HostIP: w.cfg.HostIP, HostPort: row.Port, ContainerPort: s.ContainerPort,
		MemoryBytes: s.Resources.MemoryMiB << 20, NanoCPUs: int64(s.Resources.CPUs * 1e9), PidsLimit: s.Resources.Pids,
		LogMaxSize: "10m", LogMaxFiles: 2,
	}
	for k, v := range s.Env {
		out.Env = append(out.Env, k+"="+v)
	}
	out.Env = append(out.Env, "ORCH_SERVICE="+row.Service, "ORCH_NUMBER="+labels[LabelNumber],
		"ORCH_GENERATION="+labels[LabelGeneration], "ORCH_NODE="+w.cfg.Node)
	slices.Sort(out.Env)
	for _, v := range s.Volumes {
		out.Mounts = append(out.Mounts, Mount{Source: filepath.Join(w.cfg.VolumeDir, v.Name), Target: v.Target})
	}
	return out
}

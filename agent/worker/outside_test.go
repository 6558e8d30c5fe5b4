package worker_test

import (
	"fmt"
	"slices"
	"time"

	"orch/agent/worker"
)

// What happens from outside, by the container's name.

func (m *memory) find(name string) *box {
	for _, b := range m.all {
		if b.Name == name {
			return b
		}
	}
	return nil
}

func (m *memory) with(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) die(name string, code int, reason string) {
	m.with(func() { m.end(m.find(name).ID, code, reason) })
}

func (m *memory) rm(name string) {
	m.with(func() {
		id := m.find(name).ID
		m.end(id, 137, "")
		m.remove(id)
	})
}

func (m *memory) set(name, state string) {
	m.with(func() {
		b := m.find(name)
		b.State = state
		m.tell(b, state)
	})
}

// plant puts a container there that nobody asked for.
func (m *memory) plant(c worker.Container) {
	m.with(func() {
		m.serial++
		c.ID, c.Created = fmt.Sprintf("id%04d", m.serial), time.Now()
		m.all[c.ID] = &box{Container: c, log: "planted\n"}
	})
}

func (m *memory) breakDown(down bool) {
	m.with(func() {
		m.down = down
		for r := range m.readers {
			if down {
				r.stop()
			}
		}
	})
}

// names lists name=state of all containers, sorted.
func (m *memory) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, b := range m.all {
		out = append(out, b.Name+"="+b.State)
	}
	slices.Sort(out)
	return out
}

package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// faulty is a real disk whose writes can be made to fail or to hang.
type faulty struct {
	disk

	mu    sync.Mutex
	err   error
	hang  chan struct{}
	wrote []string // what was written, in order
}

func (f *faulty) wrap(d disk) disk {
	f.disk = d
	return f
}

// fail makes every write return err; nil heals it.
func (f *faulty) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// stall makes every write wait until the returned function is called.
func (f *faulty) stall() (resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hang := make(chan struct{})
	f.hang = hang
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.hang == hang {
			f.hang = nil
			close(hang)
		}
	}
}

func (f *faulty) before(what string) error {
	f.mu.Lock()
	hang, err := f.hang, f.err
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err == nil {
		f.mu.Lock()
		f.wrote = append(f.wrote, what)
		f.mu.Unlock()
	}
	return err
}

func (f *faulty) StoreLogs(l []*raft.Log) error {
	if err := f.before("logs"); err != nil {
		return err
	}
	return f.disk.StoreLogs(l)
}

func (f *faulty) DeleteRange(first, last uint64) error {
	if err := f.before("delete"); err != nil {
		return err
	}
	return f.disk.DeleteRange(first, last)
}

func (f *faulty) Set(k, v []byte) error {
	if err := f.before(string(k)); err != nil {
		return err
	}
	return f.disk.Set(k, v)
}

func (f *faulty) SetUint64(k []byte, v uint64) error {
	if err := f.before(string(k)); err != nil {
		return err
	}
	return f.disk.SetUint64(k, v)
}

package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// record is what outlives the daemon of one container, in a file of its own.
type record struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Image       string            `json:"image"`
	Labels      map[string]string `json:"labels"`
	State       string            `json:"state"` // created, running, exited
	ExitCode    int               `json:"exit_code"`
	Reason      string            `json:"reason,omitempty"`
	HostIP      string            `json:"host_ip"`
	HostPort    int               `json:"host_port"`
	Created     time.Time         `json:"created"`
	LogMaxBytes int64             `json:"log_max_bytes"`
	LogMaxFiles int               `json:"log_max_files"`
	Process     process           `json:"process"`
}

// child is a container as this daemon knows it. The record's fields but State,
// ExitCode, Reason and Process never change; Process.mu guards those and the rest.
type child struct {
	record
	own    bool // started by this daemon, which waits for it
	paused bool
	done   chan struct{} // closed at the end of the process
}

func (c *child) addr() string { return net.JoinHostPort(c.HostIP, strconv.Itoa(c.HostPort)) }

func (c *child) path(dir string) string    { return filepath.Join(dir, c.ID+".json") }
func (c *child) logPath(dir string) string { return filepath.Join(dir, c.ID+".log") }

func (c *child) event(kind string) Event {
	labels := c.Labels
	if kind == "die" {
		labels = maps.Clone(labels)
		labels["exitCode"] = strconv.Itoa(c.ExitCode)
	}
	return Event{Name: c.Name, ID: c.ID, Kind: kind, Labels: labels, At: time.Now()}
}

// save writes the record whole or not at all.
func (c *child) save(dir string) error {
	data, err := json.MarshalIndent(c.record, "", "  ")
	if err != nil {
		return fmt.Errorf("encode container record: %w", err)
	}
	tmp := c.path(dir) + ".tmp"
	if err := writeSynced(tmp, data); err != nil {
		return fmt.Errorf("write container record: %w", err)
	}
	if err := os.Rename(tmp, c.path(dir)); err != nil {
		return fmt.Errorf("write container record: %w", err)
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// loadRecords reads every record in dir. One that can not be read stands for a
// process that nobody would find again, so it is an error.
func loadRecords(dir string) ([]record, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("process folder: %w", err)
	}
	var out []record
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read container record: %w", err)
		}
		var r record
		err = json.Unmarshal(data, &r)
		if err == nil && (!nameForm.MatchString(r.Name) || r.ID != strings.TrimSuffix(filepath.Base(path), ".json")) {
			err = fmt.Errorf("it holds no container of that ID")
		}
		if err != nil {
			return nil, fmt.Errorf("container record %s is damaged (%w): end the process it names, then remove the file", path, err)
		}
		out = append(out, r)
	}
	return out, nil
}

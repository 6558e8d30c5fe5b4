package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// markEnv names a container in its process's environment.
const markEnv = "ORCH_CONTAINER_ID"

// process is one process of this machine for good: its number alone comes back.
type process struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since the boot (proc(5), stat, field 22)
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
}

func identify(pid int) (process, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{Pid: pid}, fmt.Errorf("identify process: %w", err)
	}
	_, start, err := procStat(pid)
	if err != nil {
		return process{Pid: pid}, fmt.Errorf("identify process: %w", err)
	}
	return process{Pid: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

// procStat reads state and start time of a process.
func procStat(pid int) (state byte, start uint64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may hold anything, so look for the last one.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("process %d: unknown form of stat", pid)
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], start, err
}

// look says whether the process is there, and whether it is stopped (T).
func (p process) look() (alive, paused bool) {
	now, err := identify(p.Pid)
	if err != nil || now != p {
		return false, false
	}
	state, _, err := procStat(p.Pid)
	if err != nil || state == 'Z' || state == 'X' {
		return false, false
	}
	return true, state == 'T'
}

// signal sends sig to the process, if it is still the same one.
func (p process) signal(sig syscall.Signal) {
	if alive, _ := p.look(); alive {
		_ = syscall.Kill(p.Pid, sig)
	}
}

// killGroup ends the process and all that it started in its group. The kernel
// gives a number away again only when its group is empty too.
func (p process) killGroup() {
	if p.Pid > 1 {
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	}
}

// findStarted looks for the process of a container whose record says "created":
// the daemon died between starting it and writing that down.
func (c *child) findStarted() {
	dirs, _ := filepath.Glob("/proc/[0-9]*/environ")
	mark := []byte(markEnv + "=" + c.ID)
	for _, path := range dirs {
		env, err := os.ReadFile(path)
		if err != nil {
			continue // gone since, or somebody else's
		}
		for kv := range bytes.SplitSeq(env, []byte{0}) {
			if !bytes.Equal(kv, mark) {
				continue
			}
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if proc, err := identify(pid); err == nil {
				c.Process, c.State = proc, stateRunning
			}
			return
		}
	}
}

// mayEnter refuses a folder that the user can not reach: the service would only
// say that it can not open its data.
func mayEnter(path string, uid, gid int) error {
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("volume folder: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		need := os.FileMode(0o001)
		switch {
		case ok && int(st.Uid) == uid:
			need = 0o100
		case ok && int(st.Gid) == gid:
			need = 0o010
		}
		if info.Mode().Perm()&need == 0 && uid != 0 {
			return fmt.Errorf("user %d may not enter %s on the way to %s: let it (chmod o+x), or choose a volume folder elsewhere", uid, dir, path)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

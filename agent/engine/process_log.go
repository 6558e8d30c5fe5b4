package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// followInterval is the wait between looks at a log that is followed.
const followInterval = 50 * time.Millisecond

// logFiles of a container, newest first.
func logFiles(path string, files int) []string {
	out := []string{path}
	for i := 1; i < files; i++ {
		out = append(out, path+"."+strconv.Itoa(i))
	}
	return out
}

// cutLog copies a log that has grown beyond size to the next file and empties it.
// The process holds it open for appending and goes on at its beginning; what it
// writes between copy and cut is lost.
func cutLog(path string, size int64, files int) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= size {
		return err
	}
	names := logFiles(path, files)
	for i := len(names) - 1; i > 1; i-- {
		if err := os.Rename(names[i-1], names[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if len(names) > 1 {
		if err := keepTail(path, names[1], info.Size()-size); err != nil {
			return err
		}
	}
	return os.Truncate(path, 0)
}

// keepTail copies what follows the first skip bytes, so that one burst does not
// make the copy longer than its limit.
func keepTail(from, to string, skip int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := in.Seek(skip, io.SeekStart); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// Logs copies a container's output to w: the last tail lines, or all with tail 0
// or less; with follow until the container ends or ctx does.
func (p *Process) Logs(ctx context.Context, id string, follow bool, tail int, w io.Writer) error {
	c, err := p.find(id)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	if err := p.copyLog(ctx, c, follow, tail, w); err != nil && ctx.Err() == nil {
		return fmt.Errorf("logs of %s: %w", c.Name, err)
	}
	return nil
}

func (p *Process) copyLog(ctx context.Context, c *child, follow bool, tail int, w io.Writer) error {
	var old []byte // at most the spec's log size times its number of files
	files := logFiles(c.logPath(p.cfg.Dir), c.LogMaxFiles)
	for i := len(files) - 1; i > 0; i-- {
		data, err := os.ReadFile(files[i])
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		old = append(old, data...)
	}
	f, err := os.Open(files[0])
	if errors.Is(err, os.ErrNotExist) {
		return nil // created, never started
	}
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if _, err := w.Write(lastLines(append(old, now...), tail)); err != nil {
		return err
	}
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for at := int64(len(now)); follow; {
		ended := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			ended = true // once more, for the last lines
		case <-tick.C:
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.Size() < at { // cut since
			at = 0
		}
		n, err := io.Copy(w, io.NewSectionReader(f, at, info.Size()-at))
		if err != nil {
			return err
		}
		at += n
		follow = !ended
	}
	return nil
}

// lastLines cuts data down to its last n lines; n 0 or less keeps all.
func lastLines(data []byte, n int) []byte {
	if n <= 0 {
		return data
	}
	at := len(data)
	if at > 0 && data[at-1] == '\n' {
		at--
	}
	for ; n > 0 && at >= 0; n-- {
		at = bytes.LastIndexByte(data[:at], '\n')
	}
	return data[at+1:]
}

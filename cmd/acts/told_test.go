package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refused is why the program does not start; nil where it serves.
func refused(t *testing.T, args []string, env func(string) string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return run(ctx, args, env, io.Discard, io.Discard)
}

// TestSecretIsRead from a file or the environment, whole and alone; no error has it.
func TestSecretIsRead(t *testing.T) {
	const dsn = "postgres://acts:hunter2@127.0.0.1:1/photos?connect_timeout=1" // nobody listens there
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "dsn")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, x := range map[string]struct {
		value, file, want string
		says              []string // an error, of run too
	}{
		"neither":     {},
		"environment": {value: dsn, want: dsn},
		"file":        {file: file(dsn), want: dsn},
		"with spaces": {file: file("\n  " + dsn + " \r\n"), want: dsn},
		"both":        {value: dsn, file: file(dsn), says: []string{"--database-file", "$ACTS_DATABASE", "give one"}},
		"empty":       {file: file(""), says: []string{"--database-file", "is empty", "write the DSN"}},
		"spaces":      {file: file(" \n"), says: []string{"--database-file", "is empty", "write the DSN"}},
		"no file":     {file: filepath.Join(t.TempDir(), "none"), says: []string{"--database-file", "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			check := func(how string, err error, says []string) {
				t.Helper()
				if err == nil || strings.Contains(err.Error(), "hunter2") {
					t.Fatalf("%s: %v", how, err)
				}
				for _, want := range says {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v; want %q in it", how, err, want)
					}
				}
			}
			err := secret(&got, x.value, x.file)
			if x.says == nil && (err != nil || got != x.want) {
				t.Errorf("%q, %v; want %q", got, err, x.want)
			} else if x.says != nil {
				check("secret", err, x.says)
			}
			if x.want != "" {
				x.says = []string{"database photos on 127.0.0.1"} // it came to where it is used
			}
			if x.says == nil {
				return // SQLite
			}
			args := []string{"--listen", "127.0.0.1:0", "--data", t.TempDir()}
			env := func(file string) func(string) string {
				return func(key string) string {
					return map[string]string{"ACTS_DATABASE": x.value, "ACTS_DATABASE_FILE": file}[key]
				}
			}
			check("$ACTS_DATABASE_FILE", refused(t, args, env(x.file)), x.says)
			if x.file != "" {
				args = append(args, "--database-file", x.file)
			}
			check("--database-file", refused(t, args, env("")), x.says)
		})
	}
}

// TestToldByFlagOrVariable: where photos are kept, that they must be photos, and how large
// they may be.
func TestToldByFlagOrVariable(t *testing.T) {
	for _, how := range []string{"flags", "variables"} {
		t.Run(how, func(t *testing.T) {
			folder := t.TempDir()
			args := []string{"--listen", "127.0.0.1:0", "--data", t.TempDir()}
			told := map[string]string{"ACTS_PHOTOS": "file://" + folder, "ACTS_STRICT_IMAGES": "1", "ACTS_MAX_PHOTO": "1"}
			if how == "flags" {
				args, told = append(args, "--photos", told["ACTS_PHOTOS"], "--strict-images", "--max-photo", "1"), nil
			}
			url := running(t, args, func(key string) string { return told[key] })
			post := func(path, body string) (int, string) {
				resp, err := http.Post(url+path, "application/json", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return resp.StatusCode, string(b)
			}
			post("/api/v1/users", `{"username":"ann","password":"0123456789012345678901234567890123456789"}`)
			post("/api/v1/categories", `["green"]`)
			photo := func(begin string, size int) string {
				return base64.StdEncoding.EncodeToString([]byte(begin + strings.Repeat("\xff", size-len(begin))))
			}
			for id, x := range []struct {
				photo, says string
				status      int
			}{
				{photo("GIF89a\x01\x00\x01\x00\x00\x00\x00", 1<<20), "{}", 201}, {photo("GIF89a\x01\x00\x01\x00\x00\x00\x00", 1<<20+1), "at most 1048576 are taken", 413},
				{photo("<svg", 100), "is no image", 400},
			} {
				status, answer := post("/api/v1/acts", fmt.Sprintf(`{"actId":%d,"username":"ann","timestamp":"28-02-2019:05-04-03","caption":"","categoryName":"green","imgB64":%q}`, id, x.photo))
				if status != x.status || !strings.Contains(answer, x.says) {
					t.Errorf("photo %d: %d %s; want %d %s", id, status, answer, x.status, x.says)
				}
			}
			files := 0
			if err := filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					files++
				}
				return err
			}); err != nil || files != 1 {
				t.Errorf("%d photos in the folder, %v; want 1", files, err)
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

// running is the program until the test ends; it returns where it serves.
func running(t *testing.T, args []string, env func(string) string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	from, to := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, args, env, io.Discard, to)
		to.Close()
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		var said struct{ Addr string }
		if err := json.Unmarshal(lines.Bytes(), &said); err == nil && said.Addr != "" {
			go io.Copy(io.Discard, from) // until run has ended
			return "http://" + said.Addr
		}
	}
	t.Fatal("it ended before it served")
	return ""
}

// TestBadValues are told by the flag's name, with what would be right.
func TestBadValues(t *testing.T) {
	for key, x := range map[string]struct {
		flag   string
		values []string
		says   string
	}{
		"ACTS_MAX_PHOTO": {"--max-photo", []string{"0", "-1", "65", "10485760", "10MiB", "1.5"}, "MiB"},
		"ACTS_PHOTOS":    {"--photos", []string{"ftp://somewhere", "s3://KEY:hunter2@photos", "s3://hunter2@photos", "s3://KEY:hunter2%@photos", "photos"}, "file:///FOLDER or s3://BUCKET"},
	} {
		for _, value := range x.values {
			args := []string{"--listen", "127.0.0.1:0", "--data", t.TempDir()}
			for how, err := range map[string]error{
				"flag":     refused(t, append(args, x.flag, value), func(string) string { return "" }),
				"variable": refused(t, args, func(k string) string { return map[string]string{key: value}[k] }),
			} {
				if err == nil || !strings.Contains(err.Error(), x.flag) || !strings.Contains(err.Error(), x.says) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s %q by %s: %v", x.flag, value, how, err)
				}
			}
		}
	}
	strict := func(k string) string { return map[string]string{"ACTS_STRICT_IMAGES": "yes"}[k] }
	if err := refused(t, []string{"--listen", "127.0.0.1:0", "--data", t.TempDir()}, strict); err == nil || !strings.Contains(err.Error(), `ACTS_STRICT_IMAGES="yes": choose true or false`) {
		t.Errorf("a variable that is neither true nor false: %v", err)
	}
}

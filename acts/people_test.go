package acts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestListed finds names in a list however it is written, and nothing in what is none.
func TestListed(t *testing.T) {
	for _, x := range []struct {
		list, name string
		known      bool
		fails      bool
	}{
		{`["ann","bob"]`, "bob", true, false}, {` [ "ann" ,` + "\n\t" + `"bob" ] `, "ann", true, false}, {`["ann"]`, "an", false, false}, {`["ann"]`, "annn", false, false},
		{`[]`, "ann", false, false}, {`["a\"n\\\/\u00fc\ud83c\udf33"]`, "a\"n\\/ü🌳", true, false}, {`["ü🌳"]`, "ü🌳", true, false}, {`["\n"]`, "\n", true, false},
		{`["ann","bob"`, "carl", false, true}, {`["ann`, "ann", false, true}, {``, "ann", false, true}, {`{"ann":1}`, "ann", false, true}, {`[1]`, "1", false, true},
		{`["a" "b"]`, "b", false, true}, {`["a",]`, "b", false, true}, {`["\q"]`, "q", false, true}, {`["\u12"]`, "b", false, true}, {`<html>`, "ann", false, true},
	} {
		known, err := listed(bufio.NewReader(strings.NewReader(x.list)), x.name)
		if known != x.known || (err != nil) != x.fails {
			t.Errorf("%q in %s: %t, %v", x.name, x.list, known, err)
		}
	}
}

// FuzzListed agrees with the decoder on every list of names.
func FuzzListed(f *testing.F) {
	f.Add([]byte(`["ann","b\u00fc\ud83c\udf33"]`), "bü🌳")
	f.Add([]byte(`["a", "\\\"/"]`), `\"/`)
	f.Fuzz(func(t *testing.T, list []byte, name string) {
		known, err := listed(bufio.NewReader(strings.NewReader(string(list))), name)
		var all []string
		if json.Unmarshal(list, &all) != nil || all == nil || strings.ContainsRune(name, '�') || strings.Contains(string(list), "null") {
			return
		}
		if err != nil || known != slices.Contains(all, name) {
			t.Errorf("%q in %s: %t, %v", name, list, known, err)
		}
	})
}

// crowd is a users service with a list of n MiB, and ann at its end.
func crowd(t *testing.T, mib int, origins chan<- string) string {
	names := strings.Repeat(`"0123456789abcde",`, 1<<16) // 18 times 64 Ki
	return serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origins <- r.Header.Get("Origin")
		io.WriteString(w, "[")
		for range mib {
			io.WriteString(w, names)
		}
		io.WriteString(w, `"ann"]`)
	})).URL
}

// TestCrowd: a list of users that is longer than any buffer costs an upload none, and
// the users service is told who asks.
func TestCrowd(t *testing.T) {
	origins := make(chan string, 10)
	p := newRemote(crowd(t, 4, origins))
	defer p.http.CloseIdleConnections()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := p.known(t.Context(), "ann", "http://acts.example"); err != nil {
		t.Errorf("ann: %v", err)
	}
	if err := p.known(t.Context(), "nobody", "http://acts.example"); err == nil || !strings.Contains(err.Error(), "username") {
		t.Errorf("nobody: %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("two questions to a list of 4.7 MB took %d bytes of memory", n)
	}
	if o := <-origins; o != "http://acts.example" {
		t.Errorf("Origin %q", o)
	}
}

// TestOrigin is told always: what is given, or the address that a client came to.
func TestOrigin(t *testing.T) {
	origins := make(chan string, 10)
	users := crowd(t, 1, origins)
	for _, x := range []struct{ given, host, proto, forwarded, want string }{
		{"https://acts.example", "inside:8000", "", "", "https://acts.example"},
		{"", "acts.example:8080", "", "", "http://acts.example:8080"},
		{"", "inside:8000", "https", "acts.example", "https://acts.example"},
		{"", "inside:8000", "http", "evil.example/path?x", "null"},
	} {
		s := opened(t, Config{Data: t.TempDir(), UsersURL: users, Serve: ServeActs, Origin: x.given})
		r := httptest.NewRequest("POST", "/api/v1/acts", strings.NewReader(anAct(1, nil)))
		r.Host = x.host
		r.Header.Set("X-Forwarded-Proto", x.proto)
		if x.forwarded != "" {
			r.Header.Set("X-Forwarded-Host", x.forwarded)
		}
		s.ServeHTTP(httptest.NewRecorder(), r)
		if got := <-origins; got != x.want {
			t.Errorf("%+v: Origin %q", x, got)
		}
	}
}

// TestWhatIsServed follows from the flags.
func TestWhatIsServed(t *testing.T) {
	valid := Config{Listen: ":0", Data: t.TempDir(), MaxPhoto: DefaultMaxPhoto}
	for _, x := range []struct{ serve, users, origin, want, fault string }{
		{"", "", "", ServeAll, ""}, {"", "http://users:80", "", ServeActs, ""}, {ServeActs, "http://users:80", "https://acts.example", ServeActs, ""},
		{ServeAll, "http://users:80", "", ServeAll, "--users-url"}, {ServeActs, "", "", ServeActs, "--users-url"}, {"", "users:80", "", ServeActs, "--users-url"},
		{"", "", "acts.example", ServeAll, "--origin"}, {"", "", "http://acts.example/page", ServeAll, "--origin"}, {"none", "", "", "none", "--serve"},
	} {
		c := valid
		c.Serve, c.UsersURL, c.Origin = x.serve, x.users, x.origin
		c.Serve = c.serves()
		err := c.Validate()
		if c.Serve != x.want || (err == nil) != (x.fault == "") || x.fault != "" && !strings.Contains(fmt.Sprint(err), x.fault) {
			t.Errorf("%+v: serves %q, %v", x, c.Serve, err)
		}
	}
}

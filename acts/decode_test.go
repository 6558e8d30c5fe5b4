package acts

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestBodiesCostWhatIsWanted of them: the rest is not even read into memory.
func TestBodiesCostWhatIsWanted(t *testing.T) {
	const size = 14 << 20
	full := func(begin, part, end string) []byte {
		return []byte(begin + strings.Repeat(part, size/len(part)) + end)
	}
	for _, x := range []struct {
		what string
		body []byte
		read func(body []byte)
	}{
		{"many elements", full("[{}", ",{}", "]"), func(b []byte) { element(b, `["NAME"]`) }},
		{"one element of many", full("[[1", ",1", "]]"), func(b []byte) { element(b, `["NAME"]`) }},
		{"many fields", full(`{"a":1`, `,"a":1`, "}"), func(b []byte) { object(b, wantUser, false, "b") }},
		{"an act of them", full(`{"actId":[1`, ",1", "]}"), func(b []byte) { parseAct(b, maxPhoto) }},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		x.read(x.body)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes of memory for a body of %d", x.what, n, size)
		}
	}
}

// inside of Go is nothing for clients.
var inside = regexp.MustCompile(`(?i)cannot unmarshal|go value|struct|json\.|jsontext|jsonv2|int64|strconv|base64:|runtime|\*acts|nil\b`)

// TestMessages say which field is wrong and what would be right, and nothing of Go.
func TestMessages(t *testing.T) {
	url := service(t, t.TempDir()).URL
	settled(t, url)
	post := func(path, body string) {
		t.Helper()
		status, answer, _ := ask(t, url, "POST", path, body)
		right := strings.Contains(answer, "give") || strings.Contains(answer, "choose") || strings.Contains(answer, "leave") || strings.Contains(answer, "must not") || strings.Contains(answer, "there is no")
		if status != 400 || inside.MatchString(answer) || !right {
			t.Errorf("%s %.60s: %d %s", path, body, status, answer)
		}
	}
	values := []string{`7`, `"x"`, `""`, `null`, `true`, `{}`, `[]`, `[1]`, `["x"]`, `-1`, `1.5`, `1e400`, `"\u0000"`, `"\ud800"`, `{`, `"`, `]`, `nul`, ``}
	for _, v := range values {
		for _, path := range []string{"/api/v1/users", "/api/v1/categories", "/api/v1/acts/upvote", "/api/v1/acts"} {
			if path != "/api/v1/categories" || v != `["x"]` { // a category
				post(path, v)
			}
			if v != `"` { // [","]: a category
				post(path, "["+v+","+v+"]")
			}
		}
		post("/api/v1/users", `{"username":`+v+`}`)
		post("/api/v1/users", `{"username":"x","password":`+v+`}`)
		for _, field := range []string{"actId", "username", "timestamp", "categoryName", "imgB64", "upvotes", "caption", "other"} {
			if field == "caption" && strings.HasPrefix(v, `"`) && len(v) > 1 || field == "actId" && v == "7" || field == "imgB64" && v == `""` {
				continue // a caption, or an act
			}
			body := anAct(3, map[string]any{field: "PLACE"})
			post("/api/v1/acts", strings.Replace(body, `"PLACE"`, v, 1))
		}
	}
}

// TestTooLarge bodies are 413, whether they say how long they are or not.
func TestTooLarge(t *testing.T) {
	url := service(t, t.TempDir()).URL
	body := bytes.Repeat([]byte(" "), int(bodyOf(maxPhoto))+1)
	for _, path := range []string{"/api/v1/users", "/api/v1/categories", "/api/v1/acts", "/api/v1/acts/upvote"} {
		for name, r := range map[string]io.Reader{"with its length": bytes.NewReader(body), "in chunks": struct{ io.Reader }{bytes.NewReader(body)}} {
			resp, err := http.Post(url+path, "application/json", r)
			if err != nil {
				t.Fatalf("%s %s: %v", path, name, err)
			}
			answer, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 413 || !strings.Contains(string(answer), fmt.Sprintf(`"message":"body: is larger than %d bytes`, bodyOf(maxPhoto))) || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %s %s", path, name, resp.Status, answer)
			}
		}
	}
	settled(t, url)
	for size, want := range map[int]int{maxPhoto: 201, maxPhoto + 1: 413} {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(size, map[string]any{"imgB64": base64.StdEncoding.EncodeToString(make([]byte, size))})); status != want {
			t.Errorf("a photo of %d bytes: %d %s", size, status, answer)
		}
	}
}

// TestEscapedPhoto: the largest one fits into a body whose / are all written as \/, as PHP
// does, and comes back as it was.
func TestEscapedPhoto(t *testing.T) {
	const limit = 4 // MiB; from 3 on the 64 KiB for other fields are too few
	url := serving(t, opened(t, Config{Data: t.TempDir(), MaxPhoto: limit})).URL
	settled(t, url)
	body := noisyAct(7, limit<<20)
	escaped := strings.ReplaceAll(body, "/", `\/`)
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", escaped); status != 201 {
		t.Fatalf("a photo of %d bytes, in %d of JSON: %d %s", limit<<20, len(escaped), status, answer)
	}
	resp, err := http.Get(url + "/api/v1/acts/7/image")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, noise(7, limit<<20)) {
		t.Errorf("%d bytes came back of %d, %v", len(got), limit<<20, err)
	}
}

// TestBodiesFitThroughTheProxy that deploy/acts.yaml asks for, where nobody says how large
// photos are.
func TestBodiesFitThroughTheProxy(t *testing.T) {
	b, err := os.ReadFile("../deploy/acts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		MaxBody int64 `yaml:"max_body"`
	}
	if err := yaml.Unmarshal(b, &spec); err != nil || bodyOf(maxPhoto) > spec.MaxBody {
		t.Errorf("bodies of %d bytes, and max_body %d, %v", bodyOf(maxPhoto), spec.MaxBody, err)
	}
}

// TestLargestLimit: what the largest photo costs while it is decoded is there to be had.
func TestLargestLimit(t *testing.T) {
	if s := opened(t, Config{Data: t.TempDir(), MaxPhoto: mostPhoto}); !s.decoding.TryAcquire(decodingCost * s.maxBody) {
		t.Errorf("a body of %d bytes waits for ever", s.maxBody)
	}
}

// TestLongTexts: twenty captions as long as a body may be, listed four times at once, in
// the memory of one container.
func TestLongTexts(t *testing.T) {
	const acts, size, readers = 20, 13 << 20, 4
	p := start(t, program(t), []string{fmt.Sprintf("GOMEMLIMIT=%d", 256<<20*6/10)}, "--data", t.TempDir())
	settled(t, p.url)
	body := anAct(1, map[string]any{"caption": strings.Repeat("☺", size/len("☺"))})
	for id := range acts {
		if status, answer, _ := ask(t, p.url, "POST", "/api/v1/acts", strings.Replace(body, `"actId":1`, fmt.Sprintf(`"actId":%d`, id), 1)); status != 201 {
			t.Fatalf("%d %.200s", status, answer)
		}
	}
	before := p.peak()
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			resp, err := http.Get(p.url + "/api/v1/categories/green/acts?images=0")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < acts*(size-2) {
				t.Errorf("listed %d bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
	t.Logf("at its peak: %d MiB after the uploads, %d MiB after the lists", before>>10, p.peak()>>10)
	if n := p.peak(); n > maxPeak {
		t.Errorf("at its peak it had %d KiB, more than %d", n, maxPeak)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestTextsComeBack as they were sent, however long they are and whatever is in them.
func TestTextsComeBack(t *testing.T) {
	url := service(t, t.TempDir()).URL
	unit := "<☺>\"\\\n\u2028&\U0001F333"
	name := strings.Repeat(unit, 500)
	user, err := json.Marshal(map[string]string{"username": name, "password": hash})
	if err != nil {
		t.Fatal(err)
	}
	settled(t, url)
	if status, answer, _ := ask(t, url, "POST", "/api/v1/users", string(user)); status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	want := map[int64]string{}
	for id, caption := range []string{"", unit, strings.Repeat(unit, 1000), strings.Repeat("☺", piece), "a" + strings.Repeat("\U0001F333", 3*piece), strings.Repeat("x", longText-3), strings.Repeat("x", longText-2)} {
		edits := map[string]any{"caption": caption}
		if id == 2 {
			edits["username"] = name
		}
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(id, edits)); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
		want[int64(id)] = caption
	}
	for _, query := range []string{"", "?images=0"} {
		_, body, _ := ask(t, url, "GET", "/api/v1/categories/green/acts"+query, "")
		var all []struct {
			ActID             int64
			Caption, Username string
			ImgB64            string
		}
		if err := json.Unmarshal([]byte(body), &all); err != nil || len(all) != len(want) {
			t.Fatalf("%q: %d acts, %v", query, len(all), err)
		}
		for _, a := range all {
			if a.Caption != want[a.ActID] || (a.Username == name) != (a.ActID == 2) || (a.ImgB64 == "") != (query != "") {
				t.Errorf("act %d%s came back as %.60q by %.20q", a.ActID, query, a.Caption, a.Username)
			}
		}
	}
	_, body, _ := ask(t, url, "GET", "/api/v1/users", "")
	var users []string
	if err := json.Unmarshal([]byte(body), &users); err != nil || !slices.Equal(users, []string{name, "ann"}) {
		t.Errorf("users %.100q, %v", users, err)
	}
}

package contract

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// pixelPNG is a PNG of one pixel.
const pixelPNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// maxPhoto is the default limit of a decoded photo, in bytes.
const maxPhoto = 10 << 20

func users(c *client) {
	if c.ask("GET", "/api/v1/users", "").status == 204 {
		c.walk([]step{{"GET", "/api/v1/users", "{}", 204, ""}}) // a body of {} is accepted
	}
	ann := c.user("ann")
	slash := c.user("a/b ü %2F?")
	same := func(name, password any) string {
		return quote(map[string]any{"username": name, "password": password})
	}
	c.walk([]step{
		{"POST", "/api/v1/users", same(ann, password), 400, "username"},
		{"POST", "/api/v1/users", same(ann, strings.ToUpper(password)), 400, "username"},
		{"POST", "/api/v1/users", same(c.name("x"), password[1:]), 400, "password"},
		{"POST", "/api/v1/users", same(c.name("x"), password+"0"), 400, "password"},
		{"POST", "/api/v1/users", same(c.name("x"), strings.Replace(password, "a", "g", 1)), 400, "password"},
		{"POST", "/api/v1/users", same(c.name("x"), 7), 400, "password: is a number"},
		{"POST", "/api/v1/users", same("", password), 400, "username"},
		{"POST", "/api/v1/users", `{"username":"x"}`, 400, "password"},
		{"POST", "/api/v1/users", `{"password":"` + password + `"}`, 400, "username"},
		{"POST", "/api/v1/users", quote(map[string]any{"USERNAME": c.name("x"), "password": password}), 400, "username: is missing"}, // fields are case-sensitive
		{"POST", "/api/v1/users", same(nil, password), 400, "username: is null"},
		{"POST", "/api/v1/users", same(".", password), 400, "username"},
		{"POST", "/api/v1/users", `{"username":"x","username":"y","password":"` + password + `"}`, 400, "username: is given twice"},
		{"POST", "/api/v1/users", ``, 400, "body"},
		{"POST", "/api/v1/users", `{`, 400, "body"},
		{"POST", "/api/v1/users", `[]`, 400, "body"},
		{"POST", "/api/v1/users", same(c.name("x"), password) + "{}", 400, "body"},
		{"DELETE", "/api/v1/users/" + url.PathEscape(c.name("nobody")), "", 400, "username"},
	})
	a := c.ask("GET", "/api/v1/users", "")
	var names []string
	if a.status != 200 || json.Unmarshal([]byte(a.body), &names) != nil || !slices.Contains(names, ann) || !slices.Contains(names, slash) || slices.Contains(names, c.name("x")) {
		c.t.Errorf("users: %d %.300s", a.status, a.body)
	}
	upper := c.user("ANN") // names are case-sensitive
	c.walk([]step{
		{"DELETE", "/api/v1/users/" + url.PathEscape(upper), "{}", 200, "{}"},
		{"DELETE", "/api/v1/users/" + url.PathEscape(upper), "", 400, "username"},
		{"DELETE", "/api/v1/users/" + url.PathEscape(slash), "", 200, "{}"},
	})
}

func categories(c *client) {
	if c.ask("GET", "/api/v1/categories", "").status == 204 {
		c.walk([]step{{"GET", "/api/v1/categories", "{}", 204, ""}}) // a body of {} is accepted
	}
	green := c.category("green ü/%")
	path := "/api/v1/categories/" + url.PathEscape(green)
	c.walk([]step{
		{"POST", "/api/v1/categories", quote([]string{green}), 400, "category"},
		{"POST", "/api/v1/categories", `[]`, 400, "exactly one"},
		{"POST", "/api/v1/categories", `["a","b"]`, 400, "exactly one"},
		{"POST", "/api/v1/categories", `[""]`, 400, "category: is empty"},
		{"POST", "/api/v1/categories", `[7]`, 400, "category: is a number"},
		{"POST", "/api/v1/categories", `[null]`, 400, "category: is null"},
		{"POST", "/api/v1/categories", `["."]`, 400, "category: \".\" can not be addressed"}, // browsers resolve it in a path
		{"POST", "/api/v1/categories", `[".."]`, 400, "category: \"..\" can not be addressed"},
		{"POST", "/api/v1/categories", `["a"`, 400, "body: it ends too early"},
		{"POST", "/api/v1/categories", `["a"] []`, 400, "body: something follows"},
		{"POST", "/api/v1/categories", `{"a":1}`, 400, "body"},
		{"POST", "/api/v1/categories", `"a"`, 400, "body"},
		{"GET", path + "/acts", "", 204, ""},
		{"GET", path + "/acts", "{}", 204, ""},
		{"GET", path + "/acts/size", "", 200, "[0]"},
		{"GET", path + "/acts?start=1&end=1", "", 400, "out of bounds"},
		{"GET", "/api/v1/categories/" + c.name("none") + "/acts", "", 400, c.name("none")},
		{"GET", "/api/v1/categories/" + c.name("none") + "/acts?start=1&end=1", "", 400, c.name("none")},
		{"GET", "/api/v1/categories/" + c.name("none") + "/acts/size", "", 400, c.name("none")},
		{"DELETE", "/api/v1/categories/" + c.name("none"), "", 400, c.name("none")},
	})
	a := c.ask("GET", "/api/v1/categories", "")
	var sizes map[string]int64
	if a.status != 200 || json.Unmarshal([]byte(a.body), &sizes) != nil {
		c.t.Fatalf("categories: %d %.300s", a.status, a.body)
	}
	if n, ok := sizes[green]; !ok || n != 0 {
		c.t.Errorf("category %q: %d, %t", green, n, ok)
	}
	c.walk([]step{{"DELETE", path, "{}", 200, "{}"}, {"DELETE", path, "", 400, "category"}})
}

func uploads(c *client) {
	u, g := c.user("ann"), c.category("green")
	id := c.id()
	wrong := func(edits map[string]any, field string) step {
		return step{"POST", "/api/v1/acts", act(c.id(), u, g, edits), 400, field}
	}
	c.walk([]step{
		{"POST", "/api/v1/acts", act(id, u, g, nil), 201, "{}"},
		{"POST", "/api/v1/acts", act(id, u, g, nil), 400, "actId"},
		wrong(map[string]any{"actId": -1}, "actId"), wrong(map[string]any{"actId": "7x"}, "actId"), wrong(map[string]any{"actId": 1.5}, "actId"),
		wrong(map[string]any{"actId": json.Number("9223372036854775808")}, "actId"), wrong(map[string]any{"actId": nil}, "actId"),
		wrong(map[string]any{"username": c.name("nobody")}, "username"), wrong(map[string]any{"username": nil}, "username"),
		wrong(map[string]any{"categoryName": c.name("none")}, "categoryName"), wrong(map[string]any{"categoryName": nil}, "categoryName"),
		wrong(map[string]any{"timestamp": "31-02-2019:00-00-00"}, "timestamp"), wrong(map[string]any{"timestamp": "1-1-2019:00-00-00"}, "timestamp"),
		wrong(map[string]any{"timestamp": "01-01-2019:00-00-24"}, "timestamp"), wrong(map[string]any{"timestamp": "01-01-2019:60-00-00"}, "timestamp"),
		wrong(map[string]any{"timestamp": "2019-01-01T00:00:00Z"}, "timestamp"), wrong(map[string]any{"timestamp": nil}, "timestamp"),
		wrong(map[string]any{"caption": nil}, "caption"),
		wrong(map[string]any{"imgB64": "aGVsbG8"}, "imgB64"), wrong(map[string]any{"imgB64": "aGVsbG9="}, "imgB64"), wrong(map[string]any{"imgB64": "aGVs\nbG8="}, "imgB64"),
		wrong(map[string]any{"imgB64": "aGVs-_8="}, "imgB64"), wrong(map[string]any{"imgB64": "data:image/png;base64," + pixelPNG}, "imgB64"), wrong(map[string]any{"imgB64": nil}, "imgB64"),
		wrong(map[string]any{"upvotes": 0}, "upvotes"), wrong(map[string]any{"caption": 7}, "caption: is a number"),
		wrong(map[string]any{"colour": "red"}, "colour: is no field"), wrong(map[string]any{"caption": nil, "Caption": "helped"}, "Caption: is no field"),
		{"POST", "/api/v1/acts", act(c.id(), u, g, map[string]any{"imgB64": base64.StdEncoding.EncodeToString(make([]byte, maxPhoto+3))}), 413, "imgB64"},
		{"POST", "/api/v1/acts", "", 400, "body"}, {"POST", "/api/v1/acts", "[]", 400, "body"},
		{"GET", "/api/v1/categories/" + url.PathEscape(g) + "/acts/size", "", 200, "[1]"},
	})
	big := c.id() + 1<<61 // 64 bits
	status, body := 201, "{}"
	if c.o.Strict {
		status, body = 400, "imgB64"
	}
	c.walk([]step{
		{"POST", "/api/v1/acts", act(big, u, g, map[string]any{"caption": ""}), 201, "{}"},
		{"POST", "/api/v1/acts", act(c.id(), u, g, map[string]any{"imgB64": "aGVsbG8="}), status, body}, // no image
	})
	first := c.list(g, "")
	i := slices.IndexFunc(first, func(a listed) bool { return a.ID == big })
	if i < 0 || first[i].Username != u || first[i].Category != g || first[i].Timestamp != "28-02-2019:05-04-03" || first[i].Image != pixelPNG || first[i].Upvotes == nil || *first[i].Upvotes != 0 {
		c.t.Errorf("listed as %+v", first)
	}
}

func lists(c *client) {
	u, g := c.user("ann"), c.category("green")
	path := "/api/v1/categories/" + url.PathEscape(g) + "/acts"
	for i := range 101 {
		if i == 100 {
			c.walk([]step{{"GET", path + "/size", "", 200, "[100]"}})
			if got := c.list(g, ""); len(got) != 100 {
				c.t.Errorf("100 acts are fine, but %d were listed", len(got))
			}
		}
		c.walk([]step{{"POST", "/api/v1/acts", act(c.id(), u, g, nil), 201, "{}"}})
	}
	c.walk([]step{
		{"GET", path, "", 413, "start"},
		{"GET", path + "?start=1&end=101", "", 413, "100"},
		{"GET", path + "?start=1&end=102", "", 400, "out of bounds"}, // checked before 413
		{"GET", path + "?start=0&end=1", "", 400, "out of bounds"},
		{"GET", path + "?start=5&end=4", "", 400, "out of bounds"},
		{"GET", path + "?start=-1&end=1", "", 400, "out of bounds"},
		{"GET", path + "?start=x&end=1", "", 400, "start"},
		{"GET", path + "?start=1&end=1.5", "", 400, "end"},
		{"GET", path + "?start=1", "", 400, "end"},
		{"GET", path + "?end=1", "", 400, "start"},
		{"GET", path + "?start=1;end=2", "", 400, "query"},
		{"GET", path + "?start=%zz&end=%zz", "", 400, "query"},
		{"GET", path + "/size", "{}", 200, "[101]"},
	})
	if got := c.list(g, "?start=2&end=101"); len(got) != 100 || got[99].ID != c.nextID-100 {
		c.t.Errorf("the oldest hundred: %v", ids(got))
	}
	if got := c.list(g, "?start=1&end=2&images=0"); len(got) != 2 || got[0].Image != "" {
		c.t.Errorf("two without their photos: %+v", got)
	}
}

// order is by the parsed time, newest first; of equal times the latest inserted.
func order(c *client) {
	u, g := c.user("ann"), c.category("green")
	var made []int64
	for _, at := range []string{"01-01-2019:00-00-00", "02-01-2018:00-00-00", "01-01-2019:00-00-00", "01-01-2019:59-59-23"} {
		id := c.id()
		made = append(made, id)
		c.walk([]step{{"POST", "/api/v1/acts", act(id, u, g, map[string]any{"timestamp": at}), 201, "{}"}})
	}
	c.wantIDs(g, "", made[3], made[2], made[0], made[1])
	c.wantIDs(g, "?start=2&end=3", made[2], made[0])
	c.wantIDs(g, "?start=4&end=4", made[1])
}

func votes(c *client) {
	u, g := c.user("ann"), c.category("green")
	id := c.id()
	c.walk([]step{
		{"POST", "/api/v1/acts", act(id, u, g, nil), 201, "{}"},
		{"POST", "/api/v1/acts/upvote", fmt.Sprintf("[%d]", id), 200, "{}"},
		{"POST", "/api/v1/acts/upvote", fmt.Sprintf("[%d]", id), 200, "{}"},
		{"POST", "/api/v1/acts/upvote", fmt.Sprintf("[%d]", c.id()), 400, "actId"},
		{"POST", "/api/v1/acts/upvote", `["x"]`, 400, "actId"},
		{"POST", "/api/v1/acts/upvote", `[1.5]`, 400, "actId"}, {"POST", "/api/v1/acts/upvote", `[9223372036854775808]`, 400, "actId"},
		{"POST", "/api/v1/acts/upvote", `[]`, 400, "exactly one"},
		{"POST", "/api/v1/acts/upvote", `[1,2]`, 400, "exactly one"},
		{"POST", "/api/v1/acts/upvote", `1`, 400, "body"},
		{"POST", "/api/v1/acts/upvote", ``, 400, "body"},
	})
	if all := c.list(g, ""); len(all) != 1 || *all[0].Upvotes != 2 {
		c.t.Errorf("after two votes: %+v", all)
	}
}

// cascades: a category takes its acts along, an act that is gone leaves its number
// free, and the acts of a user stay.
func cascades(c *client) {
	u, g, other := c.user("ann"), c.category("green"), c.category("other")
	a, b := c.id(), c.id()
	path := func(id int64) string { return fmt.Sprintf("/api/v1/acts/%d", id) }
	c.walk([]step{
		{"POST", "/api/v1/acts", act(a, u, g, nil), 201, "{}"},
		{"POST", "/api/v1/acts", act(b, u, other, nil), 201, "{}"},
		{"DELETE", "/api/v1/categories/" + url.PathEscape(g), "", 200, "{}"},
		{"DELETE", path(a), "", 400, "actId"},
		{"POST", "/api/v1/acts", act(a, u, other, nil), 201, "{}"},
		{"DELETE", path(a), "{}", 200, "{}"},
		{"DELETE", path(a), "", 400, "actId"},
		{"DELETE", "/api/v1/acts/x", "", 400, "actId"},
		{"DELETE", "/api/v1/acts/99999999999999999999", "", 400, "actId"},
		{"DELETE", "/api/v1/users/" + url.PathEscape(u), "", 200, "{}"},
		{"POST", "/api/v1/acts", act(c.id(), u, other, nil), 400, "username"},
	})
	c.wantIDs(other, "", b)
	count := c.ask("GET", "/api/v1/acts/count", "")
	var n []int64
	if count.status != 200 || json.Unmarshal([]byte(count.body), &n) != nil || len(n) != 1 || n[0] < 1 {
		c.t.Errorf("count: %d %s", count.status, count.body)
	}
}

// methods come before bodies and existence, and literal paths before parameters.
func methods(c *client) {
	for _, s := range []struct{ method, path, allow string }{
		{"PUT", "/api/v1/users", "POST"}, {"GET", "/api/v1/users/nobody", "DELETE"}, {"POST", "/api/v1/users/nobody", "DELETE"},
		{"PUT", "/api/v1/categories", "POST"}, {"GET", "/api/v1/categories/none", "DELETE"}, {"POST", "/api/v1/categories/none/acts", "GET"},
		{"DELETE", "/api/v1/categories/none/acts/size", "GET"}, {"GET", "/api/v1/acts", "POST"}, {"DELETE", "/api/v1/acts/upvote", "POST"},
		{"GET", "/api/v1/acts/upvote", "POST"}, {"DELETE", "/api/v1/acts/count", "GET"}, {"POST", "/api/v1/acts/count", "GET"}, {"PATCH", "/api/v1/acts/7", "DELETE"},
	} {
		a := c.ask(s.method, s.path, "not even JSON")
		if a.status != http.StatusMethodNotAllowed || !strings.Contains(a.header.Get("Allow"), s.allow) || !strings.Contains(message(a), s.method) {
			c.t.Errorf("%s %s: %d, Allow %q, %s", s.method, s.path, a.status, a.header.Get("Allow"), a.body)
		}
	}
	c.walk([]step{
		{"GET", "/api/v1/none", "", 404, "/api/v1/none"}, {"GET", "/api/v1/categories/", "", 404, "/api/v1/categories/"}, {"GET", "/api/v2/users", "", 404, "/api/v2/users"},
	})
	if a := c.ask("GET", "/", ""); a.status != 200 {
		c.t.Errorf("GET /: %d", a.status)
	}
	for _, path := range []string{"/api/v1/acts", "/api/v1/users", "/api/v1/categories"} {
		a := c.send("OPTIONS", path, "", http.Header{"Origin": {"http://elsewhere.example"}, "Access-Control-Request-Method": {"POST"}})
		if a.status >= 300 || a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "POST") {
			c.t.Errorf("OPTIONS %s: %d %v", path, a.status, a.header)
		}
	}
}

// contentTypes: what says that it is something else than JSON is not read as JSON. Who
// says nothing sends it, as the first clients did, and who says what curl and fetch say unasked.
func contentTypes(c *client) {
	green := c.name("green")
	c.t.Cleanup(func() { c.ask("DELETE", "/api/v1/categories/"+url.PathEscape(green), "") })
	for _, path := range []string{"/api/v1/users", "/api/v1/categories", "/api/v1/acts", "/api/v1/acts/upvote"} {
		for _, kind := range []string{"text/html", "multipart/form-data; boundary=b", "image/jpeg", "application/json; charset", "json"} {
			a := c.send("POST", path, quote([]string{green}), http.Header{"Content-Type": {kind}})
			if a.status != http.StatusUnsupportedMediaType || !strings.Contains(message(a), "Content-Type") || !strings.Contains(message(a), "application/json") {
				c.t.Errorf("POST %s as %q: %d %.200s", path, kind, a.status, a.body)
			}
		}
	}
	for _, header := range []http.Header{{"Content-Type": nil}, {"Content-Type": {"Application/JSON"}}, {"Content-Type": {"application/json;charset=UTF-8"}}, {"Content-Type": {"application/x-www-form-urlencoded"}}, {"Content-Type": {"text/plain;charset=UTF-8"}}} {
		if a := c.send("POST", "/api/v1/categories", quote([]string{green}), header); a.status != 201 {
			c.t.Errorf("POST with %v: %d %.200s", header, a.status, a.body)
		}
		c.walk([]step{{"DELETE", "/api/v1/categories/" + url.PathEscape(green), "", 200, "{}"}})
	}
}

// internals: each service counts what it is asked, by clients and by the other one.
func internals(c *client) {
	if !c.o.Internals {
		c.t.Skip("the internals are not reachable here")
	}
	u, g := c.user("ann"), c.category("green")
	bases, acts, users := []string{c.base}, "[4]", ""
	if c.o.Users != "" {
		bases, acts, users = append(bases, c.o.Users), "[3]", "[2]"
	}
	each := func(steps ...step) {
		c.t.Helper()
		for _, base := range bases {
			x := *c
			x.base = base
			x.walk(steps)
		}
	}
	each(step{"GET", "/api/v1/_health", "", 200, ""}, step{"DELETE", "/api/v1/_count", "", 200, "{}"}, step{"GET", "/api/v1/_count", "", 200, "[0]"})
	c.walk([]step{
		{"GET", "/api/v1/categories/" + url.PathEscape(g) + "/acts/size", "", 200, "[0]"},
		{"GET", "/api/v1/none", "", 404, "/api/v1/none"}, {"POST", "/api/v1/users", "{", 400, "body"},
		{"POST", "/api/v1/acts", act(c.id(), u, g, nil), 201, "{}"},
	})
	c.ask("GET", "/", "") // not of the API
	each(step{"GET", "/api/v1/_health", "", 200, ""})
	c.walk([]step{{"GET", "/api/v1/_count", "", 200, acts}})
	if c.o.Users != "" {
		x := *c
		x.base = c.o.Users
		x.walk([]step{{"GET", "/api/v1/_count", "", 200, users}})
	}
	each(step{"DELETE", "/api/v1/_count", "", 200, "{}"}, step{"GET", "/api/v1/_count", "", 200, "[0]"})
}

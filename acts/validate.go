package acts

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// read decodes one JSON value and nothing after it; it answers what is wrong itself.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	err := d.Decode(into)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("there is more after the first value")
		}
	}
	if err == nil {
		return true
	}
	if tooLarge(err) {
		fail(w, http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBody)
		return false
	}
	fail(w, http.StatusBadRequest, "body: %v", err)
	return false
}

type user struct{ Username, Password string }

var sha1RE = regexp.MustCompile(`^[0-9a-fA-F]{40}$`)

func readUser(w http.ResponseWriter, r *http.Request) (user, bool) {
	var b struct {
		Username *string `json:"username"`
		Password *string `json:"password"`
	}
	switch {
	case !read(w, r, &b):
		return user{}, false
	case b.Username == nil || *b.Username == "":
		fail(w, http.StatusBadRequest, "username: missing; give a text")
	case b.Password == nil || !sha1RE.MatchString(*b.Password):
		fail(w, http.StatusBadRequest, "password: give the SHA-1 of the password, 40 hex digits")
	default:
		return user{*b.Username, *b.Password}, true
	}
	return user{}, false
}

func readCategory(w http.ResponseWriter, r *http.Request) (string, bool) {
	var b []any
	if !read(w, r, &b) {
		return "", false
	}
	if len(b) == 1 {
		if name, ok := b[0].(string); ok && name != "" {
			return name, true
		}
	}
	fail(w, http.StatusBadRequest, `category: give an array of exactly one text, ["name"]`)
	return "", false
}

func readUpvote(w http.ResponseWriter, r *http.Request) (int64, bool) {
	var b []json.Number
	if !read(w, r, &b) {
		return 0, false
	}
	if len(b) == 1 {
		if id, err := strconv.ParseInt(b[0].String(), 10, 64); err == nil {
			return id, true
		}
	}
	fail(w, http.StatusBadRequest, "actId: give an array of exactly one whole number, [123]")
	return 0, false
}

// timeLayout is DD-MM-YYYY:SS-MM-HH, seconds first.
const timeLayout = "02-01-2006:05-04-15"

// strict64 refuses what standard base64 does not allow, line ends included.
var strict64 = base64.StdEncoding.Strict()

func readAct(w http.ResponseWriter, r *http.Request) (act, bool) {
	var b struct {
		ID        *json.Number    `json:"actId"`
		Username  *string         `json:"username"`
		Timestamp *string         `json:"timestamp"`
		Caption   *string         `json:"caption"`
		Category  *string         `json:"categoryName"`
		Image     *string         `json:"imgB64"`
		Upvotes   json.RawMessage `json:"upvotes"`
	}
	if !read(w, r, &b) {
		return act{}, false
	}
	wrong := func(field, want string) (act, bool) {
		fail(w, http.StatusBadRequest, "%s: %s", field, want)
		return act{}, false
	}
	if b.ID == nil {
		return wrong("actId", "missing; give a whole number from 0")
	}
	id, err := strconv.ParseInt(b.ID.String(), 10, 64)
	if err != nil || id < 0 {
		return wrong("actId", fmt.Sprintf("%s is not a whole number from 0", b.ID))
	}
	for field, v := range map[string]*string{"username": b.Username, "timestamp": b.Timestamp, "caption": b.Caption, "categoryName": b.Category, "imgB64": b.Image} {
		if v == nil {
			return wrong(field, "missing; give a text")
		}
	}
	if b.Upvotes != nil {
		return wrong("upvotes", "must not be given; an act begins with none")
	}
	at, err := time.Parse(timeLayout, *b.Timestamp)
	if err != nil || len(*b.Timestamp) != len(timeLayout) {
		return wrong("timestamp", fmt.Sprintf("%q is not a date written DD-MM-YYYY:SS-MM-HH", *b.Timestamp))
	}
	for _, c := range []byte(*b.Image) {
		if c == '\n' || c == '\r' {
			return wrong("imgB64", "is not standard base64: it has line ends")
		}
	}
	photo, err := strict64.DecodeString(*b.Image)
	if err != nil {
		return wrong("imgB64", "is not standard base64: "+err.Error())
	}
	if len(photo) > maxPhoto {
		fail(w, http.StatusRequestEntityTooLarge, "imgB64: the photo has %d bytes; at most %d are taken", len(photo), maxPhoto)
		return act{}, false
	}
	return act{ID: id, Username: *b.Username, Timestamp: *b.Timestamp, Caption: *b.Caption, Category: *b.Category, at: at, photo: photo}, true
}

// span reads ?start=&end= of a category with n acts; without either it is all of it.
// refused says what is wrong.
func span(q url.Values, n int64) (start, end int64, refused string) {
	if !q.Has("start") && !q.Has("end") {
		return 1, n, ""
	}
	var err error
	if start, err = strconv.ParseInt(q.Get("start"), 10, 64); err != nil {
		return 0, 0, fmt.Sprintf("start: %q is not a whole number", q.Get("start"))
	}
	if end, err = strconv.ParseInt(q.Get("end"), 10, 64); err != nil {
		return 0, 0, fmt.Sprintf("end: %q is not a whole number", q.Get("end"))
	}
	if start < 1 || end > n || start > end {
		return 0, 0, fmt.Sprintf("start, end: %d to %d is out of bounds; this category has 1 to %d", start, end, n)
	}
	return start, end, ""
}

// indexPage is what a browser sees at /.
const indexPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>SelfieLessActs</title></head>
<body><h1>SelfieLessActs</h1><p>Share photos of good deeds you see. The API is at <a href="/api/v1/categories">/api/v1/categories</a>.</p></body></html>
`

package acts

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// refusal is an answer that blames the request: its status, and a message that names
// the field and what would be right.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

func wrong(format string, args ...any) error {
	return refuse(http.StatusBadRequest, format, args...)
}

var sha1RE = regexp.MustCompile(`^[0-9a-fA-F]{40}$`)

type user struct{ Username, Password string }

const wantUser = `{"username":"NAME","password":"40 HEX DIGITS"}`

func parseUser(body []byte) (u user, err error) {
	fields, err := object(body, wantUser, false, "username", "password")
	if err != nil {
		return u, err
	}
	if u.Username, err = name(fields["username"], "username"); err != nil {
		return u, err
	}
	const want = "the SHA-1 of the password, 40 hex digits"
	if u.Password, err = text(fields["password"], "password", want); err == nil && !sha1RE.MatchString(u.Password) {
		err = wrong("password: has %d bytes that are no SHA-1; give %s", len(u.Password), want)
	}
	return u, err
}

// name reads what a path must be able to name afterwards.
func name(v jsontext.Value, field string) (string, error) {
	s, err := text(v, field, "a text")
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", wrong("%s: is empty; give a text", field)
	case s == "." || s == "..": // browsers resolve them in a path, escaped too
		return "", wrong("%s: %q can not be addressed in a URL; choose another", field, s)
	}
	return s, nil
}

// storable: PostgreSQL has no text with a NUL in it nor one that is no UTF-8, and what
// one database refuses the other does too.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func parseCategory(body []byte) (string, error) {
	v, err := element(body, `["NAME"]`)
	if err != nil {
		return "", err
	}
	return name(v, "category")
}

func (s *Service) readUpvote(w http.ResponseWriter, r *http.Request) (int64, error) {
	body, release, err := s.receive(w, r)
	if err != nil {
		return 0, err
	}
	defer release()
	v, err := element(body, "[123], the actId")
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseInt(digits(v), 10, 64)
	if err != nil {
		return 0, wrong("actId: %s is no whole number of 64 bits; give one, [123]", digits(v))
	}
	return id, nil
}

// digits of a number: more than 64 bits have are not wanted, however many there are.
func digits(v jsontext.Value) string {
	const most = 40
	return string(v[:min(len(v), most)])
}

// pathID reads the number in a path; it answers what is wrong itself.
func pathID(w http.ResponseWriter, r *http.Request) (int64, bool) {
	text := r.PathValue("actId")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "actId: %q is no whole number of 64 bits; give one", text)
		return 0, false
	}
	return id, true
}

// timeLayout is DD-MM-YYYY:SS-MM-HH, seconds first.
const timeLayout = "02-01-2006:05-04-15"

// strict64 refuses what standard base64 does not allow.
var strict64 = base64.StdEncoding.Strict()

const wantAct = "an object with actId, username, timestamp, caption, categoryName and imgB64"

// parseAct checks an upload; the photo comes decoded, its type by its content.
func parseAct(body []byte, maxPhoto int64) (a act, photo []byte, err error) {
	fields, err := object(body, wantAct, true, "actId", "username", "timestamp", "caption", "categoryName", "imgB64", "upvotes")
	if err != nil {
		return a, nil, err
	}
	id := fields["actId"]
	if id == nil {
		return a, nil, wrong("actId: is missing; give a whole number from 0")
	}
	if a.ID, err = strconv.ParseInt(digits(id), 10, 64); err != nil || a.ID < 0 {
		return a, nil, wrong("actId: %s is no whole number of 64 bits from 0; give one", digits(id))
	}
	const date = "a date as DD-MM-YYYY:SS-MM-HH"
	for _, f := range []struct {
		name, want string
		to         *string
	}{{"username", "a text", &a.Username}, {"timestamp", date, &a.Timestamp}, {"caption", "a text", &a.Caption}, {"categoryName", "a text", &a.Category}} {
		if *f.to, err = text(fields[f.name], f.name, f.want); err != nil {
			return a, nil, err
		}
	}
	if fields["upvotes"] != nil {
		return a, nil, wrong("upvotes: must not be given; an act begins with none")
	}
	if a.At, err = time.Parse(timeLayout, a.Timestamp); err != nil || len(a.Timestamp) != len(timeLayout) {
		return a, nil, wrong("timestamp: %.40q is none; give %s", a.Timestamp, date)
	}
	if photo, err = readPhoto(fields["imgB64"], maxPhoto); err != nil {
		return a, nil, err
	}
	a.Photo.Type, a.Photo.Size = imageType(photo), int64(len(photo))
	return a, photo, nil
}

// readPhoto decodes a photo where its text stands, without a copy of that.
func readPhoto(v jsontext.Value, limit int64) ([]byte, error) {
	const want = "the photo in standard base64"
	switch {
	case v == nil:
		return nil, wrong("imgB64: is missing; give %s", want)
	case v.Kind() != '"':
		return nil, wrong("imgB64: is %s; give %s", kindOf(v.Kind()), want)
	}
	b := []byte(v[1 : len(v)-1])
	if bytes.IndexByte(b, '\\') >= 0 { // some write / as \/
		b, _ = jsontext.AppendUnquote(make([]byte, 0, len(b)), v) // it has been read as JSON
	}
	return decodePhoto(b, limit)
}

func decodePhoto(text []byte, limit int64) ([]byte, error) {
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 { // the library skips them
		return nil, wrong("imgB64: has line ends, which standard base64 has not; leave them out")
	}
	if n := int64(strict64.DecodedLen(len(text))); n > limit+2 {
		return nil, refuse(http.StatusRequestEntityTooLarge, "imgB64: the photo has about %d bytes; at most %d are taken", n, limit)
	}
	photo := make([]byte, strict64.DecodedLen(len(text)))
	n, err := strict64.Decode(photo, text)
	if err != nil {
		var at base64.CorruptInputError
		errors.As(err, &at)
		return nil, wrong("imgB64: is no standard base64 at byte %d; give its alphabet with + and /, padded with = to a multiple of 4, without a data: prefix", int64(at))
	}
	if int64(n) > limit {
		return nil, refuse(http.StatusRequestEntityTooLarge, "imgB64: the photo has %d bytes; at most %d are taken", n, limit)
	}
	return photo[:n], nil
}

// query of a request. One that can not be read whole is refused, for what is passed over
// might be what was asked for.
func query(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, wrong("query: %.80q can not be read; give ?NAME=VALUE&NAME=VALUE, with %%25 for %% and %%3B for ;", r.URL.RawQuery)
	}
	return q, nil
}

// span reads ?start=&end= of a category with n acts; without either it is all of it.
func span(q url.Values, n int64) (start, end int64, err error) {
	if !q.Has("start") && !q.Has("end") {
		return 1, n, nil
	}
	if start, err = strconv.ParseInt(q.Get("start"), 10, 64); err != nil {
		return 0, 0, wrong("start: %q is no whole number; give one from 1, and end with it", q.Get("start"))
	}
	if end, err = strconv.ParseInt(q.Get("end"), 10, 64); err != nil {
		return 0, 0, wrong("end: %q is no whole number; give one up to the number of acts, and start with it", q.Get("end"))
	}
	if n == 0 {
		return 0, 0, wrong("start, end: %d to %d is out of bounds; this category has no acts: leave both out", start, end)
	}
	if start < 1 || end > n || start > end {
		return 0, 0, wrong("start, end: %d to %d is out of bounds; this category has %d acts: give 1 to %d or a part of that", start, end, n, n)
	}
	return start, end, nil
}

package acts

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
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

// read decodes one JSON value and nothing after it.
func (s *Service) read(w http.ResponseWriter, r *http.Request, into any) error {
	u, release, err := s.receive(w, r)
	if err != nil {
		return err
	}
	defer release()
	return decode(u, into)
}

func decode(b []byte, into any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return wrong("body: is empty; send JSON")
	}
	if err := json.Unmarshal(b, into); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field != "" {
			return wrong("%s: is a %s; give a %s", kind.Field, kind.Value, kind.Type)
		}
		return wrong("body: %v", err)
	}
	return nil
}

type user struct{ Username, Password string }

var sha1RE = regexp.MustCompile(`^[0-9a-fA-F]{40}$`)

func (s *Service) readUser(w http.ResponseWriter, r *http.Request) (user, error) {
	var b struct {
		Username *string `json:"username"`
		Password *string `json:"password"`
	}
	if err := s.read(w, r, &b); err != nil {
		return user{}, err
	}
	switch {
	case b.Username == nil || *b.Username == "":
		return user{}, wrong("username: missing; give a text")
	case !storable(*b.Username):
		return user{}, wrong("username: has a NUL in it")
	case b.Password == nil || !sha1RE.MatchString(*b.Password):
		return user{}, wrong("password: give the SHA-1 of the password, 40 hex digits")
	}
	return user{*b.Username, *b.Password}, nil
}

// storable: PostgreSQL has no text with a NUL in it, and what one database refuses the
// other does too. Invalid UTF-8 never gets so far: JSON replaces it.
func storable(s string) bool { return bytes.IndexByte([]byte(s), 0) < 0 }

func (s *Service) readCategory(w http.ResponseWriter, r *http.Request) (string, error) {
	var b []any
	if err := s.read(w, r, &b); err != nil {
		return "", err
	}
	if len(b) == 1 {
		if name, ok := b[0].(string); ok && name != "" && storable(name) {
			return name, nil
		}
	}
	return "", wrong(`category: give an array of exactly one text, ["name"]`)
}

func (s *Service) readUpvote(w http.ResponseWriter, r *http.Request) (int64, error) {
	var b []json.RawMessage
	if err := s.read(w, r, &b); err != nil {
		return 0, err
	}
	if len(b) == 1 {
		if id, err := strconv.ParseInt(string(b[0]), 10, 64); err == nil {
			return id, nil
		}
	}
	return 0, wrong("actId: give an array of exactly one whole number, [123]")
}

// pathID reads the number in a path; it answers what is wrong itself.
func pathID(w http.ResponseWriter, r *http.Request) (int64, bool) {
	text := r.PathValue("actId")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "actId: %q is not a whole number", text)
		return 0, false
	}
	return id, true
}

// timeLayout is DD-MM-YYYY:SS-MM-HH, seconds first.
const timeLayout = "02-01-2006:05-04-15"

// strict64 refuses what standard base64 does not allow.
var strict64 = base64.StdEncoding.Strict()

// parseAct checks an upload; the photo comes decoded, its type by its content.
func parseAct(body []byte) (a act, photo []byte, err error) {
	var b struct {
		ID        json.RawMessage `json:"actId"`
		Username  *string         `json:"username"`
		Timestamp *string         `json:"timestamp"`
		Caption   *string         `json:"caption"`
		Category  *string         `json:"categoryName"`
		Image     image64         `json:"imgB64"`
		Upvotes   json.RawMessage `json:"upvotes"`
	}
	if err := decodeLarge(body, &b); err != nil {
		return a, nil, err
	}
	if b.ID == nil {
		return a, nil, wrong("actId: missing; give a whole number from 0")
	}
	if a.ID, err = strconv.ParseInt(string(b.ID), 10, 64); err != nil || a.ID < 0 {
		return a, nil, wrong("actId: %.40s is not a whole number from 0", b.ID)
	}
	for _, f := range []struct {
		name string
		from *string
		to   *string
	}{{"username", b.Username, &a.Username}, {"timestamp", b.Timestamp, &a.Timestamp}, {"caption", b.Caption, &a.Caption}, {"categoryName", b.Category, &a.Category}} {
		switch {
		case f.from == nil:
			return a, nil, wrong("%s: missing; give a text", f.name)
		case !storable(*f.from):
			return a, nil, wrong("%s: has a NUL in it", f.name)
		}
		*f.to = *f.from
	}
	if b.Upvotes != nil {
		return a, nil, wrong("upvotes: must not be given; an act begins with none")
	}
	if a.At, err = time.Parse(timeLayout, a.Timestamp); err != nil || len(a.Timestamp) != len(timeLayout) {
		return a, nil, wrong("timestamp: %.40q is not a date written DD-MM-YYYY:SS-MM-HH", a.Timestamp)
	}
	if !b.Image.given {
		return a, nil, wrong("imgB64: missing; give a text")
	}
	if photo, err = b.Image.photo, b.Image.refused; err != nil {
		return a, nil, err
	}
	a.Photo.Type, a.Photo.Size = imageType(photo), int64(len(photo))
	return a, photo, nil
}

// decodeLarge is decode for a body that is mostly one long string: this reader passes
// over that three times as fast as encoding/json (300 KiB: 1.1 ms instead of 3.7, BenchmarkParseAct).
func decodeLarge(b []byte, into any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return wrong("body: is empty; send JSON")
	}
	err := jsonv2.Unmarshal(b, into, jsontext.AllowInvalidUTF8(true)) // which it replaces, as encoding/json does
	var kind *jsonv2.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.JSONPointer != "":
		return wrong("%s: is of the wrong kind (%s); give what docs/openapi.yaml says", strings.TrimPrefix(string(kind.JSONPointer), "/"), kind.JSONKind)
	}
	return wrong("body: %v", err)
}

// image64 is a photo in base64, decoded where it stands, without a copy of the text.
type image64 struct {
	given   bool
	photo   []byte
	refused error
}

// UnmarshalJSONFrom never fails on what the text says: that is told after what is wrong
// with the other fields.
func (i *image64) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	i.given = true
	if value.Kind() != '"' {
		i.refused = wrong("imgB64: is no text; give the photo in standard base64")
		return nil
	}
	text := []byte(value[1 : len(value)-1])
	if bytes.IndexByte(text, '\\') >= 0 { // some write / as \/
		if text, err = jsontext.AppendUnquote(nil, value); err != nil {
			return err
		}
	}
	i.photo, i.refused = decodePhoto(text)
	return nil
}

func decodePhoto(text []byte) ([]byte, error) {
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 { // the library skips them
		return nil, wrong("imgB64: is not standard base64: it has line ends")
	}
	if n := strict64.DecodedLen(len(text)); n > maxPhoto+2 {
		return nil, refuse(http.StatusRequestEntityTooLarge, "imgB64: the photo has about %d bytes; at most %d are taken", n, maxPhoto)
	}
	photo := make([]byte, strict64.DecodedLen(len(text)))
	n, err := strict64.Decode(photo, text)
	if err != nil {
		return nil, wrong("imgB64: is not standard base64: %v", err)
	}
	if n > maxPhoto {
		return nil, refuse(http.StatusRequestEntityTooLarge, "imgB64: the photo has %d bytes; at most %d are taken", n, maxPhoto)
	}
	return photo[:n], nil
}

// span reads ?start=&end= of a category with n acts; without either it is all of it.
func span(q url.Values, n int64) (start, end int64, err error) {
	if !q.Has("start") && !q.Has("end") {
		return 1, n, nil
	}
	if start, err = strconv.ParseInt(q.Get("start"), 10, 64); err != nil {
		return 0, 0, wrong("start: %q is not a whole number", q.Get("start"))
	}
	if end, err = strconv.ParseInt(q.Get("end"), 10, 64); err != nil {
		return 0, 0, wrong("end: %q is not a whole number", q.Get("end"))
	}
	if start < 1 || end > n || start > end {
		return 0, 0, wrong("start, end: %d to %d is out of bounds; this category has 1 to %d", start, end, n)
	}
	return start, end, nil
}

package acts

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A body is read where it stands, token by token: what is not wanted costs no memory,
// and what is wanted is a part of the body until somebody unquotes it. want says what
// would be right, for the message.

// element reads an array of exactly one value, and nothing after it.
func element(body []byte, want string) (jsontext.Value, error) {
	d, err := begin(body, '[', want)
	if err != nil {
		return nil, err
	}
	if d.PeekKind() == ']' {
		return nil, wrong("body: is an empty array; give exactly one, %s", want)
	}
	value, err := valueOf(d, body, want)
	if err != nil {
		return nil, err
	}
	if k := d.PeekKind(); k != ']' && k != 0 { // 0: it is no JSON, which end says
		return nil, wrong("body: has more than one element; give exactly one, %s", want)
	}
	return value, end(d, want)
}

// object reads an object, and nothing after it: the values of its fields. One that is
// not known is refused where only is set, else passed over.
func object(body []byte, want string, only bool, known ...string) (map[string]jsontext.Value, error) {
	d, err := begin(body, '{', want)
	if err != nil {
		return nil, err
	}
	found := map[string]jsontext.Value{}
	for k := d.PeekKind(); k != '}' && k != 0; k = d.PeekKind() {
		t, err := d.ReadToken()
		if err != nil {
			return nil, notJSON(err, want)
		}
		name := t.String()
		ours := slices.Contains(known, name)
		switch {
		case !ours && only:
			return nil, wrong("%.40s: is no field of this; give %s", name, want)
		case found[name] != nil:
			return nil, wrong("%s: is given twice; give it once", name)
		}
		value, err := valueOf(d, body, want)
		if err != nil {
			return nil, err
		}
		if ours {
			found[name] = value
		}
	}
	return found, end(d, want)
}

// begin passes over the bracket that a body begins with.
func begin(body []byte, bracket jsontext.Kind, want string) (*jsontext.Decoder, error) {
	// A name that comes twice is looked for in object: the library would keep all of them.
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	k := d.PeekKind()
	t, err := d.ReadToken()
	switch {
	case err == io.EOF:
		return nil, wrong("body: is empty; give %s", want)
	case err != nil:
		return nil, notJSON(err, want)
	case t.Kind() != bracket:
		return nil, wrong("body: is %s; give %s", kindOf(k), want)
	}
	return d, nil
}

// valueOf reads the next value. It is a part of body, not a copy.
func valueOf(d *jsontext.Decoder, body []byte, want string) (jsontext.Value, error) {
	v, err := d.ReadValue()
	if err != nil {
		return nil, notJSON(err, want)
	}
	at := d.InputOffset()
	return body[at-int64(len(v)) : at], nil
}

// end reads the closing bracket, and that nothing follows.
func end(d *jsontext.Decoder, want string) error {
	if _, err := d.ReadToken(); err != nil {
		return notJSON(err, want)
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return wrong("body: something follows after its end at byte %d; give %s alone", d.InputOffset(), want)
	}
	return nil
}

func notJSON(err error, want string) error {
	var at *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return wrong("body: it ends too early; give %s", want)
	case errors.As(err, &at):
		return wrong("body: is no JSON at byte %d (%s); give %s", at.ByteOffset, strings.TrimPrefix(at.Err.Error(), "jsontext: "), want)
	}
	return wrong("body: is no JSON; give %s", want)
}

// kindOf a value, in words.
func kindOf(k jsontext.Kind) string {
	switch k {
	case '"':
		return "a text"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a truth value"
	}
	return "null"
}

// text reads a value that must be one; field and want are for the message. What is no
// UTF-8 in it becomes U+FFFD.
func text(v jsontext.Value, field, want string) (string, error) {
	switch {
	case v == nil:
		return "", wrong("%s: is missing; give %s", field, want)
	case v.Kind() != '"':
		return "", wrong("%s: is %s; give %s", field, kindOf(v.Kind()), want)
	}
	b, _ := jsontext.AppendUnquote(nil, v) // its error is of UTF-8; it has been read as JSON
	if s := string(b); storable(s) {
		return s, nil
	}
	return "", wrong("%s: has a NUL in it; give %s without one", field, want)
}

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// town is who and what there is: users, categories, and one photo to post.
type town struct {
	prefix     string
	users      []string
	categories []string
	photo      string // base64
}

func newTown(c Config, now time.Time) (*town, error) {
	t := &town{prefix: fmt.Sprintf("load-%x", now.UnixMilli())}
	for i := range c.Users {
		t.users = append(t.users, fmt.Sprintf("%s-user-%d", t.prefix, i+1))
	}
	for i := range c.Categories {
		t.categories = append(t.categories, fmt.Sprintf("%s-category-%d", t.prefix, i+1))
	}
	b, err := photo(c.Photo, c.Seed)
	t.photo = base64.StdEncoding.EncodeToString(b)
	return t, err
}

// photo makes a JPEG of about size bytes: noise compresses badly, so its side
// decides its size, at close to 1.5 bytes a pixel.
func photo(size int, seed uint64) ([]byte, error) {
	r := rand.New(rand.NewPCG(seed, 2))
	side := 8
	for side*side*3/2 < size {
		side += 8
	}
	m := image.NewRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			n := r.Uint32()
			m.SetRGBA(x, y, color.RGBA{byte(n), byte(n >> 8), byte(n >> 16), 255})
		}
	}
	var b bytes.Buffer
	err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 90})
	return b.Bytes(), err
}

// settle makes the users and categories. A request that fails ends it: nothing that
// follows would mean much.
func (t *town) settle(ctx context.Context, v *visitor) error {
	for _, u := range t.users {
		if err := v.must(ctx, http.MethodPost, "/api/v1/users", map[string]string{"username": u, "password": "3d725109c7e7c0bfb9d709836735b56d943d263f"}); err != nil {
			return fmt.Errorf("make user: %w", err)
		}
	}
	for _, c := range t.categories {
		if err := v.must(ctx, http.MethodPost, "/api/v1/categories", []string{c}); err != nil {
			return fmt.Errorf("make category: %w", err)
		}
	}
	return nil
}

// clear takes everything away again, as far as it comes; a category takes its acts along.
func (t *town) clear(ctx context.Context, v *visitor) error {
	var errs []error
	remove := func(path string) {
		if ctx.Err() == nil {
			errs = append(errs, v.must(ctx, http.MethodDelete, path, nil))
		}
	}
	for _, c := range t.categories {
		remove("/api/v1/categories/" + url.PathEscape(c))
	}
	for _, u := range t.users {
		remove("/api/v1/users/" + url.PathEscape(u))
	}
	return errors.Join(errs...)
}

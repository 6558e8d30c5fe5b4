package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// How many of a hundred visits do what beside reading: a guess, that most people only
// look.
const (
	votesOf100 = 20
	postsOf100 = 5
	pageSize   = 20 // acts that a feed asks for at once
)

// errSpent says that the run's requests are used up.
var errSpent = errors.New("all requests are spent")

// visitor sends requests and counts what comes back.
type visitor struct {
	c      Config
	http   *http.Client
	tally  *tally
	left   atomic.Int64 // requests
	turn   atomic.Uint64
	actIDs atomic.Int64
}

func newVisitor(c Config, now time.Time) *visitor {
	v := &visitor{c: c, tally: &tally{}, http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConns: maxPeople, MaxIdleConnsPerHost: maxPeople, IdleConnTimeout: 30 * time.Second, DisableCompression: true},
	}}
	v.left.Store(c.Requests)
	v.actIDs.Store(now.UnixMilli() * 1000) // beyond what the page uses
	return v
}

// do sends one request and returns its body. An answer of 400 or more, or none, is
// counted as failed; the error is then nil unless the run should end.
func (v *visitor) do(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	if v.left.Add(-1) < 0 {
		return 0, nil, errSpent
	}
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(b)
	}
	base := strings.TrimSuffix(v.c.Addrs[v.turn.Add(1)%uint64(len(v.c.Addrs))], "/")
	req, err := http.NewRequestWithContext(ctx, method, base+path, in)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	start := time.Now()
	resp, err := v.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil, ctx.Err() // the end of the run, not a fault of the service
		}
		v.tally.add(method, 0, err.Error(), time.Since(start))
		return 0, nil, nil
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		v.tally.add(method, 0, "answer cut: "+err.Error(), time.Since(start))
		return 0, nil, nil
	}
	v.tally.add(method, resp.StatusCode, string(answer), time.Since(start))
	return resp.StatusCode, answer, nil
}

// must is do for what a run cannot go on without.
func (v *visitor) must(ctx context.Context, method, path string, body any) error {
	status, answer, err := v.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if status == 0 {
		return fmt.Errorf("%s %s: no answer; does the service run there?", method, path)
	}
	if status >= 300 {
		return fmt.Errorf("%s %s: %d %.200s", method, path, status, answer)
	}
	return nil
}

// visit is what one person does: looks at the categories and at the feed of a
// favourite one; sometimes votes for one of its acts, sometimes posts one.
func (v *visitor) visit(ctx context.Context, t *town, r *rand.Rand, favourite uint64) error {
	category := t.categories[favourite]
	feed := "/api/v1/categories/" + url.PathEscape(category) + "/acts"
	if _, _, err := v.do(ctx, http.MethodGet, "/api/v1/categories", nil); err != nil {
		return err
	}
	what := r.IntN(100)
	if what < postsOf100 {
		return v.post(ctx, t, r, category)
	}
	status, answer, err := v.do(ctx, http.MethodGet, feed+"/size", nil)
	if err != nil || status != http.StatusOK {
		return err
	}
	var size []int64
	if json.Unmarshal(answer, &size) != nil || len(size) != 1 || size[0] == 0 {
		return nil
	}
	status, answer, err = v.do(ctx, http.MethodGet, fmt.Sprintf("%s?start=1&end=%d", feed, min(size[0], pageSize)), nil)
	if err != nil || status != http.StatusOK {
		return err
	}
	var acts []struct {
		ID int64 `json:"actId"`
	}
	if err := json.Unmarshal(answer, &acts); err != nil {
		v.tally.add(http.MethodGet, 0, "feed: "+err.Error(), 0)
		return nil
	}
	if len(acts) > 0 && what < postsOf100+votesOf100 {
		_, _, err = v.do(ctx, http.MethodPost, "/api/v1/acts/upvote", []int64{acts[r.IntN(len(acts))].ID})
	}
	return err
}

func (v *visitor) post(ctx context.Context, t *town, r *rand.Rand, category string) error {
	_, _, err := v.do(ctx, http.MethodPost, "/api/v1/acts", map[string]any{
		"actId": v.actIDs.Add(1), "username": t.users[r.IntN(len(t.users))], "timestamp": time.Now().Format("02-01-2006:05-04-15"),
		"caption": fmt.Sprintf("good deed %d", r.IntN(1000)), "categoryName": category, "imgB64": t.photo,
	})
	return err
}

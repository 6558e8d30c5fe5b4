package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// settle makes a user and the categories, with their acts.
func (s *acts) settle(ctx context.Context, o options, p *postgres) error {
	for path, bodies := range map[string][]string{
		"/api/v1/users":      {`{"username":"ann","password":"0123456789abcdef0123456789abcdef01234567"}`},
		"/api/v1/categories": {`["page"]`, `["posts"]`, `["flood"]`},
	} {
		for _, body := range bodies {
			if err := s.post(ctx, http.DefaultClient, path, int64(len(body)), strings.NewReader(body)); err != nil {
				return err
			}
		}
	}
	if err := s.act(ctx, http.DefaultClient, 1, "posts", picture(1600, 1200)); err != nil {
		return err
	}
	for i := range int64(20) {
		if err := s.act(ctx, http.DefaultClient, 100+i, "page", noise(2<<10)); err != nil {
			return err
		}
	}
	return s.fill(ctx, o.big, p)
}

func noise(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(b)
}

func picture(w, h int) string {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y), 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// act posts one; the photo is shared by all who post it.
func (s *acts) act(ctx context.Context, c *http.Client, id int64, category, photo string) error {
	head := fmt.Sprintf(`{"actId":%d,"username":"ann","timestamp":"01-01-2020:00-00-00","caption":"a good deed","categoryName":%q,"imgB64":"`, id, category)
	return s.post(ctx, c, "/api/v1/acts", int64(len(head)+len(photo)+2), io.MultiReader(strings.NewReader(head), strings.NewReader(photo), strings.NewReader(`"}`)))
}

func (s *acts) post(ctx context.Context, c *http.Client, path string, n int64, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, body)
	if err != nil {
		return err
	}
	req.ContentLength = n
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("POST %s: %s %s", path, resp.Status, said)
	}
	return err
}

// many runs f on n goroutines, each with its numbers, and joins what failed.
func many(n int, f func(worker int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// upload posts photos of 300 KiB for a time.
func (s *acts) upload(ctx context.Context, span time.Duration) (done int64, took time.Duration, err error) {
	const workers = 16
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer c.CloseIdleConnections()
	photo, begin := noise(300<<10), time.Now()
	var id atomic.Int64
	err = many(workers, func(int) error {
		for time.Since(begin) < span {
			if err := s.act(ctx, c, 1000+id.Add(1), "posts", photo); err != nil {
				return err
			}
		}
		return nil
	})
	return id.Load(), time.Since(begin), err
}

// flood posts n photos of 10 MiB, all at once.
func (s *acts) flood(ctx context.Context, n int) (stored int64, took time.Duration, err error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	photo, begin := noise(10<<20), time.Now()
	var ok atomic.Int64
	err = many(n, func(i int) error {
		if err := s.act(ctx, c, int64(1_000_000+i), "flood", photo); err != nil {
			return err
		}
		ok.Add(1)
		return nil
	})
	return ok.Load(), time.Since(begin), err
}

var (
	rateRE = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	p99RE  = regexp.MustCompile(`99%\s+(\S+)`)
	badRE  = regexp.MustCompile(`Non-2xx or 3xx responses: \d+|Socket errors: .*`)
)

// wrk reads one address with 32 connections.
func wrk(ctx context.Context, url string, span time.Duration) (rate float64, p99 string, err error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c32", "--latency", fmt.Sprintf("-d%ds", int(span.Seconds())), url).CombinedOutput()
	if err != nil {
		return 0, "", fmt.Errorf("wrk: %w (apt-get install wrk)\n%s", err, out)
	}
	if bad := badRE.Find(out); bad != nil {
		return 0, "", fmt.Errorf("wrk of %s: %s", url, bad)
	}
	m, t := rateRE.FindSubmatch(out), p99RE.FindSubmatch(out)
	if m == nil || t == nil {
		return 0, "", fmt.Errorf("wrk said %s", out)
	}
	rate, err = strconv.ParseFloat(string(m[1]), 64)
	return rate, string(t[1]), err
}

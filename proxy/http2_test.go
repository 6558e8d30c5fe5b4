package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"testing"
)

// http2Client speaks HTTP/2 and nothing else.
func http2Client(t *testing.T) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// TestHTTP2Streams: what net/http serves alone streams too, and loses nothing on the way:
// the query as it came, early hints, events one by one, trailers both ways.
func TestHTTP2Streams(t *testing.T) {
	seen := make(chan string)
	addr := startTLS(t, t.TempDir(), patient(backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		await(t, seen, "the hint")
		w.Header().Set("Trailer", "X-Sum")
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			fmt.Fprintf(w, "heard %s of %s\n", in.Text(), r.URL.RawQuery)
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
	})))
	body, client := io.Pipe()
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints {
				seen <- h.Get("Link")
			}
			return nil
		},
	}), "POST", "https://"+addr+"/x?a;b=%zz", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Sum": nil}
	go io.WriteString(client, "0\n")
	resp, err := http2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out := bufio.NewReader(resp.Body)
	for i := range 3 {
		if i > 0 {
			fmt.Fprintln(client, i)
		}
		want := fmt.Sprintf("heard %d of a;b=%%zz\n", i)
		if line, err := out.ReadString('\n'); err != nil || line != want {
			t.Fatalf("%q, %v; want %q", line, err, want)
		}
	}
	req.Trailer.Set("X-Sum", "1")
	client.Close()
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if got := resp.Trailer.Get("X-Sum"); resp.ProtoMajor != 2 || got != "1" {
		t.Errorf("%s, trailer %q", resp.Proto, got)
	}
}

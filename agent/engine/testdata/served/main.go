// Command served is the service that the engine's contract test runs: it answers
// on one port, writes lines, and ends as its environment tells it.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	os.Exit(run())
}

func run() int {
	fmt.Println("line 1: served begins")
	if code, err := strconv.Atoi(os.Getenv("EXIT")); err == nil {
		fmt.Fprintln(os.Stderr, "line 2: told to exit", code)
		return code
	}
	addr := os.Getenv("ACTS_LISTEN")
	if addr == "" {
		addr = ":8000"
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if os.Getenv("DEAF") != "" {
		signal.Ignore(syscall.SIGTERM)
		ctx = context.Background()
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s\n", os.Getenv("WHO"))
	})
	http.HandleFunc("/log", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.URL.Query().Get("line"))
	})
	http.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("lines"))
		fmt.Print(strings.Repeat(strings.Repeat("x", 99)+"\n", n))
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		path := os.Getenv("DATA") + "/written"
		if err := os.WriteFile(path, []byte("by "+os.Getenv("WHO")), 0o600); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/grow", func(w http.ResponseWriter, r *http.Request) {
		grown := make([]byte, 1<<30)
		for i := 0; i < len(grown); i += 4096 {
			grown[i] = 1
		}
	})
	http.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Join(os.Environ(), "\n"))
	})
	server := &http.Server{Addr: addr}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Println("line 2: listening on", addr)
	select {
	case err := <-failed:
		fmt.Fprintln(os.Stderr, err)
		return 1
	case <-ctx.Done():
		fmt.Println("last line: told to end")
		server.Close()
		return 0
	}
}

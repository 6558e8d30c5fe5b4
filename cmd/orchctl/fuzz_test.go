package main

import "testing"

// FuzzReadBundle: a file that somebody hands over may hold anything.
func FuzzReadBundle(f *testing.F) {
	f.Add([]byte(`{"version":1,"cluster_id":"ab","name":"bob","role":"read","addrs":["127.0.0.1:7480"],"certificate":"AA==","authorities":"AA==","key":"AA==","until":"2027-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"version":2,"cluster_id":"ab","name":"bob","addrs":["x"]}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := readBundle(data)
		if err != nil {
			return
		}
		if b.Version != bundleVersion || b.ClusterID == "" || b.Name == "" || len(b.Addrs) == 0 {
			t.Fatalf("accepted %+v", b)
		}
		if c, err := b.client(b.Addrs[0]); err == nil { // a key and certificates that fit
			c.Close()
		}
	})
}

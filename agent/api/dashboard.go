package api

import (
	"html/template"
	"net/http"
)

// dashboard is one page without scripts or foreign hosts; it asks for itself again.
var dashboard = template.Must(template.New("dashboard").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2"><meta name="viewport" content="width=device-width">
<title>orch {{.Node}}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem; } table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #8884; } .bad { color: #c22; font-weight: 600; }
</style></head><body>
<h1>Cluster seen from {{.Node}}</h1>
<p>{{with .Status.Leader}}Leader {{.}}{{else}}<span class="bad">No leader: requests are served, nothing is healed or scaled</span>{{end}}, term {{.Status.Term}}, commit index {{.Status.CommitIndex}}, turns {{.Status.TurnMode}}</p>
{{range .Status.Impaired}}<p class="bad">{{.What}}: {{.Reason}}. {{.Meaning}}</p>{{end}}
<h2>Containers</h2><table><tr><th>Container<th>Node<th>Port<th>Status<th>Turn<th>Generation<th>Phase<th>Image<th>Reason</tr>
{{range .Rows}}<tr><td>{{.Service}}/{{.Number}}<td>{{.Node}}<td>{{.Port}}<td>{{if .Status}}True{{else}}<span class="bad">False</span>{{end}}<td>{{.Turn}}<td>{{.Generation}}<td>{{.Phase}}<td>{{.Image}}<td>{{.Reason}}</tr>{{else}}<tr><td colspan="9">none: run a service with "orchctl apply -f FILE"</tr>{{end}}</table>
{{with .Status.Pending}}<h2>Next</h2><table><tr><th>What<th>In<th>Why</tr>
{{range .}}<tr><td>{{.What}}<td>{{.DueInMS}} ms<td>{{.Reason}}</tr>{{end}}</table>
{{end}}<h2>Services</h2><table><tr><th>Service<th>Desired<th>Healthy<th>Range<th>Turn<th>Requests<th>Why</tr>
{{range .Status.Services}}<tr><td>{{.Name}}<td>{{.Desired}}<td>{{.Healthy}}<td>{{.Min}}-{{.Max}}<td>{{.Turn}}<td>{{.RequestsInWindow}}<td>{{.ScaleReason}}</tr>{{end}}</table>
<h2>Nodes</h2><table><tr><th>Node<th>Address<th>Role<th>Status<th>Applied<th>Version</tr>
{{range .Status.Nodes}}<tr><td>{{.ID}}<td>{{.Addr}}<td>{{.Role}}<td>{{.Status}}<td>{{.AppliedIndex}}<td>{{.Version}}</tr>{{end}}</table>
</body></html>
`))

// Shown is what the dashboard reads.
type Shown interface {
	Table
	Self
}

// Dashboard is the page of the metrics listener: read-only, for loopback.
func Dashboard(node Shown) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		data := struct {
			Node   string
			Status Status
			Rows   []Row
		}{node.Report().Node, node.Status(r.Context()), Rows(node.View())}
		dashboard.Execute(w, data) // the reader is gone where this fails
	})
}

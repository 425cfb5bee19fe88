// Package monitor shows a running pipeline to people and to their tools over HTTP.
//
//	status() ──▶ /status (JSON), /readyz, walferry_pipeline_… and LSN gauges
//	registry ──▶ /metrics (Prometheus)
//	            /livez
//
// It promises that looking changes nothing: there is no endpoint that takes anything but GET and
// HEAD, none that alters state, and no client, however slow or however many, holds more than a
// bounded number of connections. What it serves holds no secret and no row.
//
// It does not authenticate and does not speak TLS, which is why it listens on loopback unless the
// configuration says otherwise.
package monitor

{{- /* The operator's command line, as a JSON list. What is null is left to the operator. */ -}}
{{- define "ohallo.args" -}}
{{- $values := .Values -}}
{{- $args := list "run" "--leader-elect" -}}
{{- $default := printf "0.0.0.0:%d" 8080 -}}
{{- $http := printf "%s:%d" $values.http.address (int $values.http.port) -}}
{{- if ne $http $default }}{{ $args = append $args (printf "--http-addr=%s" $http) }}{{ end -}}
{{- range $values.watchNamespaces }}{{ $args = append $args (printf "--namespace=%s" .) }}{{ end -}}
{{- if kindIs "bool" $values.clusterWorkspaces -}}
{{- $args = append $args (printf "--cluster-workspaces=%t" $values.clusterWorkspaces) -}}
{{- end -}}
{{- $lease := include "ohallo.leaseName" . -}}
{{- if ne $lease "ohallo-operator" }}{{ $args = append $args (printf "--lease-name=%s" $lease) }}{{ end -}}
{{- $flags := list
  (list "api-url" $values.ohallo.apiUrl)
  (list "create-path" $values.ohallo.createPath)
  (list "requests-per-second" $values.ohallo.requestsPerSecond)
  (list "total-requests-per-second" $values.ohallo.totalRequestsPerSecond)
  (list "burst" $values.ohallo.burst)
  (list "request-timeout" $values.ohallo.requestTimeoutSeconds)
  (list "create-timeout" $values.ohallo.createTimeoutSeconds)
  (list "consistency-window-seconds" $values.ohallo.consistencyWindowSeconds)
  (list "proxy" $values.ohallo.proxy)
  (list "concurrency" $values.concurrency)
  (list "channel-selector" $values.channelSelector)
  (list "workspace-selector" $values.workspaceSelector)
  (list "log-format" $values.log.format)
  (list "otlp-endpoint" $values.traces.otlpEndpoint)
  (list "lease-duration-seconds" $values.leaderElection.leaseDurationSeconds)
  (list "lease-renew-deadline-seconds" $values.leaderElection.renewDeadlineSeconds)
  (list "lease-retry-seconds" $values.leaderElection.retrySeconds)
-}}
{{- range $flags -}}
{{- $value := index . 1 -}}
{{- if not (kindIs "invalid" $value) }}{{ $args = append $args (printf "--%s=%v" (index . 0) $value) }}{{ end -}}
{{- end -}}
{{- if $values.metrics.perObject }}{{ $args = append $args "--object-metrics" }}{{ end -}}
{{- if $values.ohallo.allowInsecureApi }}{{ $args = append $args "--allow-insecure-api" }}{{ end -}}
{{- if $values.ohallo.caConfigMap.name }}{{ $args = append $args "--ca-file=/etc/ohallo/ca/ca.crt" }}{{ end -}}
{{- concat $args $values.extraArgs | toJson -}}
{{- end }}

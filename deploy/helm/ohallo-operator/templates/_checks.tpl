{{- /* Combinations that the schema cannot check: each fails with a message. */ -}}
{{- define "ohallo.checks" -}}
{{- $values := .Values -}}
{{- $budget := $values.podDisruptionBudget -}}
{{- if not (or (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable)) -}}
{{- fail "podDisruptionBudget: set minAvailable or maxUnavailable, not both." -}}
{{- end -}}
{{- $lease := $values.leaderElection -}}
{{- $duration := $lease.leaseDurationSeconds | default 60 | int -}}
{{- $deadline := $lease.renewDeadlineSeconds | default 40 | int -}}
{{- $retry := $lease.retrySeconds | default 5 | int -}}
{{- if not (and (gt $duration $deadline) (gt $deadline $retry)) -}}
{{- fail (printf "leaderElection: leaseDurationSeconds (%d) must be longer than renewDeadlineSeconds (%d), and that longer than retrySeconds (%d)." $duration $deadline $retry) -}}
{{- end -}}
{{- $create := $values.ohallo.createTimeoutSeconds | default 60 | int -}}
{{- $request := $values.ohallo.requestTimeoutSeconds | default 20 | int -}}
{{- if lt $create $request -}}
{{- fail (printf "ohallo: createTimeoutSeconds (%d) must not be shorter than requestTimeoutSeconds (%d)." $create $request) -}}
{{- end -}}
{{- if and $values.metrics.serviceMonitor.enabled $values.metrics.podMonitor.enabled -}}
{{- fail "metrics: enable serviceMonitor or podMonitor, not both: both together would count everything twice." -}}
{{- end -}}
{{- if and $values.metrics.serviceMonitor.enabled (not $values.metrics.service.enabled) -}}
{{- fail "metrics: serviceMonitor needs metrics.service.enabled." -}}
{{- end -}}
{{- end }}

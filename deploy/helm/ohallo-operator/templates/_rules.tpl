{{- /* Exactly what the operator does; a test compares it with the API server's audit log. */ -}}
{{- define "ohallo.rules.namespaced" -}}
# patch: finalizers and the operator's own annotations, never the spec. get: a fresh read before a DELETE.
- apiGroups: [ohallo.eu]
  resources: [channels]
  verbs: [get, list, watch, patch]
- apiGroups: [ohallo.eu]
  resources: [workspaces]
  verbs: [list, watch, patch]
- apiGroups: [ohallo.eu]
  resources: [channels/status, workspaces/status]
  verbs: [update]
{{ include "ohallo.rules.secrets" . }}
{{ include "ohallo.rules.events" . }}
{{- end }}

{{- define "ohallo.rules.secrets" -}}
# list and watch read metadata only; get reads the content of Secrets that a Channel or Workspace names.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{- end }}

{{- define "ohallo.rules.events" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "ohallo.rules.cluster" -}}
- apiGroups: [ohallo.eu]
  resources: [clusterworkspaces]
  verbs: [list, watch, patch]
- apiGroups: [ohallo.eu]
  resources: [clusterworkspaces/status]
  verbs: [update]
# For the labels in allowedNamespaces.selector of ClusterWorkspaces.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}

{{- /* A Role and its binding: (dict "root" $ "name" … "namespace" … "rules" …) */ -}}
{{- define "ohallo.role" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "ohallo.metadata" (dict "root" .root "name" .name "namespace" .namespace) | nindent 2 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "ohallo.metadata" (dict "root" .root "name" .name "namespace" .namespace) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  {{- include "ohallo.subject" .root | nindent 2 }}
{{- end }}

{{- define "ohallo.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "ohallo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "ohallo.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ohallo.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "ohallo.selector" -}}
app.kubernetes.io/name: {{ include "ohallo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ohallo.labels" -}}
{{ include "ohallo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Name, labels and annotations of an object: (dict "root" $ "name" … "namespace" … "labels" … "annotations" …) */ -}}
{{- define "ohallo.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "ohallo.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ohallo.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "ohallo.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name must be set where serviceAccount.create is false." .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "ohallo.leaseName" -}}
{{- .Values.leaderElection.leaseName | default (include "ohallo.fullname" .) -}}
{{- end }}

{{- define "ohallo.image" -}}
{{- $image := .Values.image -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- $name := $image.repository -}}
{{- if and $registry (not (regexMatch "^(localhost|[^/]*[.:][^/]*)/" $name)) -}}
{{- $name = printf "%s/%s" $registry $name -}}
{{- end -}}
{{- $released := index (.Chart.Annotations | default dict) "ohallo.eu/image-digest" -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else if and $released (not $image.tag) (eq $image.repository "ohallo/ohallo-operator") -}}
{{- printf "%s:%s@%s" $name .Chart.AppVersion $released -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{- /* "true" or nothing. */ -}}
{{- define "ohallo.servesClusterWorkspaces" -}}
{{- if kindIs "bool" .Values.clusterWorkspaces -}}
{{- if .Values.clusterWorkspaces }}true{{ end -}}
{{- else if not .Values.watchNamespaces -}}
true
{{- end -}}
{{- end }}

{{- define "ohallo.subject" -}}
- kind: ServiceAccount
  name: {{ include "ohallo.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

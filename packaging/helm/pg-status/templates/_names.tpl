{{- define "pg-status.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* At most 47 characters: pods and revisions append to it. */ -}}
{{- define "pg-status.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 47 | trimSuffix "-" }}
{{- else if contains (include "pg-status.name" .) .Release.Name -}}
{{ .Release.Name | trunc 47 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "pg-status.name" .) | trunc 47 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "pg-status.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pg-status.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of the pod of `helm test`, which the Services must not select. */ -}}
{{- define "pg-status.testLabels" -}}
app.kubernetes.io/name: {{ include "pg-status.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pg-status.labels" -}}
{{ include "pg-status.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "pg-status.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s-alpine" .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "pg-status.scheme" -}}
{{ ternary "https" "http" (not (empty .Values.http.tlsSecret)) }}
{{- end }}

{{- /* The comma-separated URL of each instance, for relays. */ -}}
{{- define "pg-status.urls" -}}
{{- $urls := list -}}
{{- range $number := until (int .Values.replicas) -}}
{{- $urls = append $urls (printf "%s://%s-%d.%s-pods.%s.svc:%d" (include "pg-status.scheme" $) (include "pg-status.fullname" $) $number (include "pg-status.fullname" $) $.Release.Namespace (int $.Values.http.port)) -}}
{{- end -}}
{{ join "," $urls }}
{{- end }}

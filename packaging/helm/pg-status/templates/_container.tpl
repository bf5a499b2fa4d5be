{{- /* What the container of a shared instance and the sidecar have in common. `variables` are additional. */ -}}
{{- define "pg-status.container" -}}
{{- include "pg-status.validate" .root -}}
{{- $values := .root.Values -}}
{{- $variables := merge (dict) (default (dict) .variables) (include "pg-status.variables" .root | fromJson) -}}
image: {{ include "pg-status.image" .root }}
imagePullPolicy: {{ $values.image.pullPolicy }}
env:
  {{- range $name, $value := $variables }}
  - name: pg_status__{{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- if $values.postgres.sslMode }}
  - name: PGSSLMODE
    value: {{ $values.postgres.sslMode }}
  {{- end }}
  {{- if $values.postgres.caSecret.name }}
  - name: PGSSLROOTCERT
    value: /run/secrets/pg-status/postgres/ca.crt
  {{- end }}
  {{- with $values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "pg-status.secretMount" -}}
{{- if include "pg-status.secrets" . | fromJsonArray -}}
- name: pg-status-secrets
  mountPath: /run/secrets/pg-status
  readOnly: true
{{- end }}
{{- end }}

{{- /* An item of `initContainers`: a native sidecar, which starts before the containers and ends after
them. The pod requires `fsGroup: 65532` if secrets are used, and the volumes of "pg-status.volumes".
*/ -}}
{{- define "pg-status.sidecar" -}}
{{- if or .Values.clusters .Values.existingClusters.configMap .Values.existingClusters.secret -}}
{{- fail "a sidecar monitors one cluster: set hosts, upstreams.urls or nats.servers" -}}
{{- end -}}
- name: pg-status
  restartPolicy: Always
  {{- /* Within the pod only. */ -}}
  {{- $variables := dict "http_listen_address" "127.0.0.1" }}
  {{- include "pg-status.container" (dict "root" . "variables" $variables) | nindent 2 }}
  # An httpGet probe would use the address of the pod, on which pg-status does not listen.
  startupProbe:
    exec:
      command: [python3, -m, pgstatus, health, /{{ .Values.sidecar.startApplication }}]
    periodSeconds: 1
    timeoutSeconds: 3
    # A restart would only delay the readiness.
    failureThreshold: 600
  livenessProbe:
    exec:
      command: [python3, -m, pgstatus, health, /live]
    periodSeconds: 30
    timeoutSeconds: 3
  resources:
    {{- toYaml .Values.sidecar.resources | nindent 4 }}
  {{- with include "pg-status.secretMount" . }}
  volumeMounts:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* Items of `volumes` of a pod with "pg-status.sidecar"; empty if it uses no secrets. */ -}}
{{- define "pg-status.volumes" -}}
{{- with include "pg-status.secrets" . | fromJsonArray -}}
- name: pg-status-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- toYaml . | nindent 6 }}
{{- end }}
{{- end }}

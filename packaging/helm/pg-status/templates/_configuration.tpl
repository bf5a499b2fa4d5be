{{- /* A scalar as text. Numbers of values files are floats, which Go prints as 1e+06. */ -}}
{{- define "pg-status.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end }}

{{- /* Fails with all invalid combinations of values. */ -}}
{{- define "pg-status.validate" -}}
{{- $values := .Values -}}
{{- $problems := list -}}
{{- $existing := or $values.existingClusters.configMap $values.existingClusters.secret -}}
{{- $several := or $values.clusters $existing -}}
{{- $relay := or $values.upstreams.urls $values.nats.servers -}}
{{- if not (or $values.hosts $several $relay) -}}
{{- $problems = append $problems "one of hosts, clusters, existingClusters, upstreams.urls and nats.servers is required" -}}
{{- end -}}
{{- if and $several $values.hosts -}}
{{- $problems = append $problems "hosts cannot be combined with clusters or existingClusters: define this cluster in clusters" -}}
{{- end -}}
{{- if and $several $values.upstreams.urls -}}
{{- $problems = append $problems "upstreams.urls cannot be combined with clusters or existingClusters: set upstreams of each cluster" -}}
{{- end -}}
{{- if and $several $values.clusterName -}}
{{- $problems = append $problems "clusterName is the name of a single cluster; the names of several are the keys of clusters" -}}
{{- end -}}
{{- if and $values.hosts $values.upstreams.urls (not $values.fallbackDirect) -}}
{{- $problems = append $problems "hosts and upstreams.urls: set fallbackDirect=true, or remove the hosts" -}}
{{- end -}}
{{- if and $values.upstreams.urls $values.nats.servers -}}
{{- $problems = append $problems "upstreams.urls and nats.servers: a relay has one kind of source" -}}
{{- end -}}
{{- if and $values.nats.servers (not $several) (not $values.clusterName) -}}
{{- $problems = append $problems "nats.servers requires clusterName: the evidence of each cluster has its name in the bucket" -}}
{{- end -}}
{{- if $values.fallbackDirect -}}
{{- if and (not $several) (not $values.hosts) -}}
{{- $problems = append $problems "fallbackDirect requires hosts" -}}
{{- end -}}
{{- if and (not $several) (not $relay) -}}
{{- $problems = append $problems "fallbackDirect requires upstreams.urls or nats.servers" -}}
{{- end -}}
{{- end -}}
{{- range $name, $cluster := $values.clusters -}}
{{- if not (or $cluster.hosts $cluster.upstreams $values.nats.servers) -}}
{{- $problems = append $problems (printf "clusters.%s: hosts or upstreams is required" $name) -}}
{{- end -}}
{{- if and $cluster.upstreams $values.nats.servers -}}
{{- $problems = append $problems (printf "clusters.%s: upstreams and nats.servers: a relay has one kind of source" $name) -}}
{{- end -}}
{{- if and $cluster.hosts $cluster.upstreams (not $values.fallbackDirect) -}}
{{- $problems = append $problems (printf "clusters.%s: hosts and upstreams: set fallbackDirect=true, or remove one" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $values.http.clientCaSecret.name (not $values.http.tlsSecret) -}}
{{- $problems = append $problems "http.clientCaSecret requires http.tlsSecret" -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled $values.http.clientCaSecret.name (not $values.serviceMonitor.certificateSecret) -}}
{{- $problems = append $problems "serviceMonitor.certificateSecret is required by http.clientCaSecret" -}}
{{- end -}}
{{- if and (hasPrefix "verify" $values.postgres.sslMode) (not $values.postgres.caSecret.name) -}}
{{- $problems = append $problems (printf "postgres.sslMode=%s requires postgres.caSecret" $values.postgres.sslMode) -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "invalid values:\n  %s" (join "\n  " $problems)) -}}
{{- end -}}
{{- end }}

{{- /* The variables of pg-status as a JSON object of strings. */ -}}
{{- define "pg-status.variables" -}}
{{- $values := .Values -}}
{{- $directory := "/run/secrets/pg-status" -}}
{{- $found := dict "http_port" $values.http.port -}}
{{- if $values.clusterName -}}{{- $_ := set $found "cluster_name" $values.clusterName -}}{{- end -}}
{{- if $values.hosts -}}{{- $_ := set $found "hosts" (join "," $values.hosts) -}}{{- end -}}
{{- if or $values.clusters $values.existingClusters.configMap $values.existingClusters.secret -}}
{{- $_ := set $found "clusters_dir" "/etc/pg-status/clusters.d" -}}
{{- end -}}
{{- if or $values.hosts $found.clusters_dir -}}
{{- $_ := set $found "pg_user" $values.postgres.user -}}
{{- $_ := set $found "pg_port" $values.postgres.port -}}
{{- $_ := set $found "pg_database" $values.postgres.database -}}
{{- if $values.postgres.passwordSecret.name -}}
{{- $_ := set $found "pg_password_file" (printf "%s/password" $directory) -}}
{{- end -}}
{{- end -}}
{{- with $values.upstreams -}}
{{- if .urls -}}{{- $_ := set $found "upstreams" (join "," .urls) -}}{{- end -}}
{{- if .tokenSecret.name -}}{{- $_ := set $found "upstreams_token_file" (printf "%s/upstreams/token" $directory) -}}{{- end -}}
{{- if .caSecret.name -}}{{- $_ := set $found "upstreams_tls_ca" (printf "%s/upstreams/ca.crt" $directory) -}}{{- end -}}
{{- if .certificateSecret -}}
{{- $_ := set $found "upstreams_tls_cert" (printf "%s/upstreams/tls.crt" $directory) -}}
{{- $_ := set $found "upstreams_tls_key" (printf "%s/upstreams/tls.key" $directory) -}}
{{- end -}}
{{- end -}}
{{- with $values.nats -}}
{{- if .servers -}}
{{- $_ := set $found "nats" (join "," .servers) -}}
{{- $_ := set $found "nats_bucket" .bucket -}}
{{- $_ := set $found "nats_replicas" .replicas -}}
{{- if .credentialsSecret.name -}}{{- $_ := set $found "nats_credentials_file" (printf "%s/nats/nats.creds" $directory) -}}{{- end -}}
{{- if .caSecret.name -}}{{- $_ := set $found "nats_tls_ca" (printf "%s/nats/ca.crt" $directory) -}}{{- end -}}
{{- if .certificateSecret -}}
{{- $_ := set $found "nats_tls_cert" (printf "%s/nats/tls.crt" $directory) -}}
{{- $_ := set $found "nats_tls_key" (printf "%s/nats/tls.key" $directory) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.fallbackDirect $values.hosts -}}{{- $_ := set $found "fallback_direct" true -}}{{- end -}}
{{- with $values.http -}}
{{- if .tokenSecret.name -}}{{- $_ := set $found "http_token_file" (printf "%s/http/token" $directory) -}}{{- end -}}
{{- if .tlsSecret -}}
{{- $_ := set $found "http_tls_cert" (printf "%s/http/tls.crt" $directory) -}}
{{- $_ := set $found "http_tls_key" (printf "%s/http/tls.key" $directory) -}}
{{- end -}}
{{- if .clientCaSecret.name -}}{{- $_ := set $found "http_tls_client_ca" (printf "%s/http/ca.crt" $directory) -}}{{- end -}}
{{- end -}}
{{- $found = merge (dict) $values.variables $found -}}
{{- $texts := dict -}}
{{- range $name, $value := $found -}}
{{- $_ := set $texts $name (include "pg-status.text" $value) -}}
{{- end -}}
{{ toJson $texts }}
{{- end }}

{{- /* The env file of one cluster. Context: dict "name" "cluster" "values". */ -}}
{{- define "pg-status.cluster" -}}
{{- $found := dict -}}
{{- $cluster := .cluster -}}
{{- if $cluster.hosts -}}{{- $_ := set $found "hosts" (join "," $cluster.hosts) -}}{{- end -}}
{{- if $cluster.upstreams -}}{{- $_ := set $found "upstreams" (join "," $cluster.upstreams) -}}{{- end -}}
{{- if and .values.fallbackDirect $cluster.hosts (or $cluster.upstreams .values.nats.servers) -}}
{{- $_ := set $found "fallback_direct" true -}}
{{- end -}}
{{- range $key, $value := (default (dict) $cluster.postgres) -}}
{{- if eq $key "passwordSecret" -}}
{{- $_ := set $found "pg_password_file" (printf "/run/secrets/pg-status/clusters/%s/password" $.name) -}}
{{- else -}}
{{- $_ := set $found (printf "pg_%s" $key) $value -}}
{{- end -}}
{{- end -}}
{{- $found = merge (dict) (default (dict) $cluster.variables) $found -}}
{{- range $name, $value := $found -}}
pg_status__{{ $name }}={{ include "pg-status.text" $value | quote }}
{{ end -}}
{{- end }}

{{- /* The sources of the volume with all secrets, as a JSON array. */ -}}
{{- define "pg-status.secrets" -}}
{{- $values := .Values -}}
{{- $sources := list -}}
{{- $files := list
  (list $values.postgres.passwordSecret "password")
  (list $values.postgres.caSecret "postgres/ca.crt")
  (list $values.upstreams.tokenSecret "upstreams/token")
  (list $values.upstreams.caSecret "upstreams/ca.crt")
  (list $values.nats.credentialsSecret "nats/nats.creds")
  (list $values.nats.caSecret "nats/ca.crt")
  (list $values.http.tokenSecret "http/token")
  (list $values.http.clientCaSecret "http/ca.crt")
-}}
{{- range $files -}}
{{- $secret := first . -}}
{{- if $secret.name -}}
{{- $sources = append $sources (dict "secret" (dict "name" $secret.name "items" (list (dict "key" $secret.key "path" (last .))))) -}}
{{- end -}}
{{- end -}}
{{- range $directory, $name := dict "upstreams" $values.upstreams.certificateSecret "nats" $values.nats.certificateSecret "http" $values.http.tlsSecret -}}
{{- if $name -}}
{{- $items := list -}}
{{- range list "tls.crt" "tls.key" -}}
{{- $items = append $items (dict "key" . "path" (printf "%s/%s" $directory .)) -}}
{{- end -}}
{{- $sources = append $sources (dict "secret" (dict "name" $name "items" $items)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $cluster := $values.clusters -}}
{{- with (default (dict) $cluster.postgres).passwordSecret -}}
{{- /* A missing password affects only its cluster. */ -}}
{{- $item := dict "key" (default "password" .key) "path" (printf "clusters/%s/password" $name) -}}
{{- $sources = append $sources (dict "secret" (dict "name" .name "optional" true "items" (list $item))) -}}
{{- end -}}
{{- end -}}
{{ toJson $sources }}
{{- end }}

{{/* Names, labels and selector are those of the add-on's chart: a Deployment's selector cannot be changed. */}}

{{- define "controller.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "controller.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* With a suffix, cut so that it still fits a name. */}}
{{- define "controller.suffixed" -}}
{{- $suffix := index . 1 }}
{{- printf "%s-%s" (include "controller.fullname" (index . 0) | trunc (int (sub 62 (len $suffix))) | trimSuffix "-") $suffix }}
{{- end }}

{{- define "controller.selectorLabels" -}}
app.kubernetes.io/name: {{ include "controller.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "controller.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "controller.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "controller.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "controller.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Harvester fetches from this name, whatever the release is called. */}}
{{- define "controller.serviceName" -}}
harvester-vm-import-controller
{{- end }}

{{- define "controller.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The container's security context; somebody who asks for root gets it without a contradiction. */}}
{{- define "controller.securityContext" -}}
{{- $context := deepCopy .Values.securityContext }}
{{- $user := $context.runAsUser | default (ternary 0 "" (hasKey $context "runAsUser")) }}
{{- if and (eq (toString $user) "0") (not (hasKey $context "runAsNonRoot")) }}
{{- $_ := set $context "runAsNonRoot" false }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{/* Labels and annotations of what only lives while a hook runs; takes the context and the hook's weight. */}}
{{- define "controller.hookMetadata" -}}
labels:
  {{- include "controller.labels" (index . 0) | nindent 2 }}
annotations:
  helm.sh/hook: pre-install,pre-upgrade
  helm.sh/hook-weight: {{ index . 1 | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

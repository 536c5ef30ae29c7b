{{- define "draftsmith.labels" -}}
app.kubernetes.io/name: draftsmith
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: draftsmith
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "draftsmith.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "draftsmith.claim" -}}
{{ .Values.workspace.existingClaim | default (printf "%s-workspace" .Release.Name) }}
{{- end }}

{{- define "draftsmith.binding" -}}
subjects:
  - kind: ServiceAccount
    name: {{ .Values.serviceAccount.name }}
    namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* The pod of the driver. `command`: the words after `draftsmith`; `restart`: its restart policy. */}}
{{- define "draftsmith.pod" -}}
metadata:
  labels:
    {{- include "draftsmith.labels" .root | nindent 4 }}
    app.kubernetes.io/component: driver
  annotations:
    checksum/config: {{ .root.Values.config | sha256sum }}
    karpenter.sh/do-not-disrupt: "true"
spec:
  serviceAccountName: {{ .root.Values.serviceAccount.name }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  restartPolicy: {{ .restart }}
  terminationGracePeriodSeconds: 240
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- with .root.Values.runAsUser }}
    runAsUser: {{ int . }}
    {{- end }}
    {{- with .root.Values.runAsGroup }}
    runAsGroup: {{ int . }}
    fsGroup: {{ int . }}
    {{- end }}
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: draftsmith
      image: {{ include "draftsmith.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [draftsmith]
      args:
        {{- range .command }}
        - {{ . | quote }}
        {{- end }}
        - --config=/etc/draftsmith/draftsmith.toml
        - --workspace={{ .root.Values.workspace.mountPath }}
        {{- if .root.Values.actOnCluster }}
        - --i-understand-this-uses-the-cluster
        {{- end }}
      env:
        - name: HOME
          value: /tmp/home
        - name: XDG_CACHE_HOME
          value: /tmp/cache
        {{- range $name, $from := .root.Values.secretEnv }}
        - name: {{ $name }}
          valueFrom:
            secretKeyRef:
              name: {{ $from.secret }}
              key: {{ $from.key }}
        {{- end }}
      resources:
        {{- toYaml .root.Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        privileged: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/draftsmith
          readOnly: true
        - name: tmp
          mountPath: /tmp
        - name: workspace
          mountPath: {{ .root.Values.workspace.mountPath }}
        {{- range $index, $volume := .root.Values.volumes }}
        - name: volume-{{ $index }}
          mountPath: {{ $volume.mountPath }}
          readOnly: {{ $volume.readOnly | default false }}
        {{- end }}
    {{- if and .root.Values.metrics.enabled (eq .root.Values.mode "controller") }}
    - name: metrics
      image: {{ include "draftsmith.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [draftsmith]
      args:
        - metrics
        - --listen=0.0.0.0:{{ int .root.Values.metrics.port }}
        - --config=/etc/draftsmith/draftsmith.toml
        - --workspace={{ .root.Values.workspace.mountPath }}
      env:
        - name: HOME
          value: /tmp/home
      ports:
        - name: metrics
          containerPort: {{ int .root.Values.metrics.port }}
      readinessProbe:
        httpGet:
          path: /metrics
          port: metrics
        periodSeconds: 30
        timeoutSeconds: 10
      resources:
        {{- toYaml .root.Values.metrics.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        privileged: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/draftsmith
          readOnly: true
        - name: tmp
          mountPath: /tmp
        # Writable: whether a controller is at work is told by trying its lock.
        - name: workspace
          mountPath: {{ .root.Values.workspace.mountPath }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ .root.Release.Name }}-config
    - name: tmp
      emptyDir:
        sizeLimit: 16Gi
    - name: workspace
      persistentVolumeClaim:
        claimName: {{ include "draftsmith.claim" .root }}
    {{- range $index, $volume := .root.Values.volumes }}
    - name: volume-{{ $index }}
      persistentVolumeClaim:
        claimName: {{ $volume.claim }}
        readOnly: {{ $volume.readOnly | default false }}
    {{- end }}
{{- end }}

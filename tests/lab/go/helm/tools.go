//go:build tools

// Package tools pins helm, with which the chart is checked and installed.
package tools

import _ "helm.sh/helm/v3/cmd/helm"

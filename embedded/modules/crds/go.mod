// Custom resource definitions as their projects publish them, in the zips of their Go modules. Nothing here is compiled:
// go.sum pins the zips' content.
module gpuserve.local/embedded/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.19.1
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	github.com/traefik/traefik/v3 v3.6.10
	sigs.k8s.io/gateway-api v1.4.0
)

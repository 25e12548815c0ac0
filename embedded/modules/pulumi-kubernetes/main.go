// Command pulumi-resource-kubernetes is Pulumi's Kubernetes provider.
//
// The provider's own main embeds two files that its repository generates before a build. The module's zip carries their
// sources: the build puts them beside this file (see gpuserve_embedded.tools.catalogue).
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version.Version, schema, terraformMapping)
}

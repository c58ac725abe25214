// Says what GitOps tools make of objects, by the tools' own code: kstatus, Argo CD's settings and Lua, Flux's health
// check expressions. Reads one request as JSON from stdin and writes the healths, in the objects' order, to stdout.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type request struct {
	// The ConfigMap that configures Argo CD.
	ArgoCD corev1.ConfigMap `json:"argocd"`
	// What a Kustomization has in spec.healthCheckExprs.
	Flux    []kustomize.CustomHealthCheck `json:"flux"`
	Objects []*unstructured.Unstructured  `json:"objects"`
}

type verdict struct {
	Kstatus string `json:"kstatus"`
	Flux    string `json:"flux"`
	Argo    argo   `json:"argo"`
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return fmt.Errorf("the request can't be read: %w", err)
	}
	vm, err := settings(ctx, &asked.ArgoCD)
	if err != nil {
		return fmt.Errorf("Argo CD does not take its ConfigMap: %w", err)
	}
	checks, err := evaluators(asked.Flux)
	if err != nil {
		return fmt.Errorf("Flux does not take the health checks: %w", err)
	}
	verdicts := make([]verdict, len(asked.Objects))
	for i, object := range asked.Objects {
		if verdicts[i], err = judge(ctx, vm, checks, object); err != nil {
			return fmt.Errorf("object %d, %s %s: %w", i, object.GetKind(), object.GetName(), err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

func judge(ctx context.Context, vm argoVM, checks fluxChecks, object *unstructured.Unstructured) (verdict, error) {
	general, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus: %w", err)
	}
	special := general
	if check, found := checks[object.GroupVersionKind().GroupKind()]; found {
		if special, err = check.Evaluate(ctx, object); err != nil {
			return verdict{}, fmt.Errorf("Flux: %w", err)
		}
	}
	shown, err := vm.judge(object)
	if err != nil {
		return verdict{}, fmt.Errorf("Argo CD: %w", err)
	}
	return verdict{Kstatus: string(general.Status), Flux: string(special.Status), Argo: shown}, nil
}

package main

import (
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type fluxChecks map[schema.GroupKind]*cel.StatusEvaluator

func evaluators(checks []kustomize.CustomHealthCheck) (fluxChecks, error) {
	found := fluxChecks{}
	for _, check := range checks {
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return nil, err
		}
		found[schema.FromAPIVersionAndKind(check.APIVersion, check.Kind).GroupKind()] = evaluator
	}
	return found, nil
}

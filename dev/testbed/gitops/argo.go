package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/argoproj/argo-cd/v3/util/lua"
	argosettings "github.com/argoproj/argo-cd/v3/util/settings"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
)

type argoVM struct{ lua.VM }

type argo struct {
	Health  string `json:"health"`
	Message string `json:"message"`
	// By name, those that are not disabled: the object that the action leaves.
	Actions map[string]*unstructured.Unstructured `json:"actions"`
	// Those that are shown and can't be chosen.
	Disabled []string `json:"disabled"`
}

// settings reads the ConfigMap as Argo CD does.
func settings(ctx context.Context, config *corev1.ConfigMap) (argoVM, error) {
	meta := metav1.ObjectMeta{Name: "argocd-secret", Namespace: config.Namespace, Labels: config.Labels}
	client := fake.NewClientset(config, &corev1.Secret{ObjectMeta: meta})
	overrides, err := argosettings.NewSettingsManager(ctx, client, config.Namespace).GetResourceOverrides()
	return argoVM{lua.VM{ResourceOverrides: overrides}}, err
}

func (vm argoVM) judge(object *unstructured.Unstructured) (argo, error) {
	health, err := lua.ResourceHealthOverrides(vm.ResourceOverrides).GetResourceHealth(object)
	if err != nil {
		return argo{}, fmt.Errorf("health: %w", err)
	}
	if health == nil {
		return argo{}, errors.New("no health script is for its kind")
	}
	shown := argo{Health: string(health.Status), Message: health.Message}
	shown.Actions = map[string]*unstructured.Unstructured{}
	scripts, err := vm.GetResourceActionDiscovery(object)
	if err != nil {
		return argo{}, err
	}
	actions, err := vm.ExecuteResourceActionDiscovery(object, scripts)
	if err != nil {
		return argo{}, fmt.Errorf("discovery: %w", err)
	}
	for _, action := range actions {
		if action.Disabled {
			shown.Disabled = append(shown.Disabled, action.Name)
			continue
		}
		if shown.Actions[action.Name], err = vm.act(object, action.Name); err != nil {
			return argo{}, fmt.Errorf("action %s: %w", action.Name, err)
		}
	}
	return shown, nil
}

func (vm argoVM) act(object *unstructured.Unstructured, name string) (*unstructured.Unstructured, error) {
	action, err := vm.GetResourceAction(object, name)
	if err != nil {
		return nil, err
	}
	changed, err := vm.ExecuteResourceAction(object, action.ActionLua, nil)
	if err != nil {
		return nil, err
	}
	if len(changed) != 1 || changed[0].K8SOperation != lua.PatchOperation {
		return nil, errors.New("it does something other than to change its own object")
	}
	return changed[0].UnstructuredObj, nil
}

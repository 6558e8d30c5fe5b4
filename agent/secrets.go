package agent

import (
	"fmt"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// Seal implements api.Truster.
func (n *Node) Seal(s fsm.Spec) (fsm.Spec, error) {
	if len(s.SecretEnv) == 0 {
		return s, nil
	}
	key := n.trust.clusterKey()
	if key == nil {
		return s, fmt.Errorf("%w: run 'orchctl init', or 'orchctl join'", api.ErrNotMember)
	}
	out := make(map[string]string, len(s.SecretEnv))
	for k, v := range s.SecretEnv {
		if pki.SealedEnv(v) {
			if _, err := pki.OpenEnv(key, s.Name, k, v); err != nil {
				return s, fmt.Errorf("%w: secret_env.%s was sealed by another cluster or for another service: give its plain value", api.ErrBad, k)
			}
			out[k] = v
			continue
		}
		var err error
		if out[k], err = pki.SealEnv(key, s.Name, k, v); err != nil {
			return s, err
		}
	}
	s.SecretEnv = out
	return s, nil
}

// reveal opens the secret values of a spec for a container of this node.
func (n *Node) reveal(s fsm.Spec) (map[string]string, error) {
	out := make(map[string]string, len(s.SecretEnv))
	for k, v := range s.SecretEnv {
		if !pki.SealedEnv(v) {
			return nil, fmt.Errorf("secret_env.%s is not sealed: apply the service's spec again", k)
		}
		text, err := pki.OpenEnv(n.trust.clusterKey(), s.Name, k, v)
		if err != nil {
			return nil, fmt.Errorf("secret_env.%s: %w: apply the service's spec with its value again", k, err)
		}
		out[k] = text
	}
	return out, nil
}

package engine

import (
	"testing"
)

func dockerBench(t *testing.T) bench {
	d := newDockerT(t)
	return bench{
		contract: d, image: built.image,
		pause:  func(t *testing.T, c Container) { docker(t, "pause", c.ID) },
		murder: func(t *testing.T, c Container) { docker(t, "kill", c.ID) },
		leave: func(t *testing.T, s Spec) {
			args := []string{"create", "--name", s.Name}
			for k, v := range s.Labels {
				args = append(args, "--label", k+"="+v)
			}
			docker(t, append(args, s.Image)...)
		},
	}
}
